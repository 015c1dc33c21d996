"""Architectures of well-known libraries. A library is needed only when its model is used; each is an optional extra."""

from __future__ import annotations

from pdebench_fm.hookspecs import ModelEntry, hookimpl

_EXTRAS = {
    "neuralop": "pdebench_fm[neuraloperator]",
    "torch_harmonics": "pdebench_fm[neuraloperator]",
    "transformers": "pdebench_fm[transformers]",
    "monai": "pdebench_fm[monai]",
}
_MODELS = {
    "neuralop-fno": ("neuralop:FNO", "FNO of neuraloperator; set width, modes and layers"),
    "neuralop-tfno": ("neuralop:TFNO", "FNO of neuraloperator with Tucker-factorised weights; set rank"),
    "neuralop-uno": ("neuralop:UNO", "U-shaped neural operator of neuraloperator; set width and modes"),
    "neuralop-local-no": ("neuralop:LocalNO", "FNO with local convolutions, of neuraloperator; set width and modes"),
    "vit": ("transformers:ViT", "vision transformer of transformers; set width, depth, heads and patch"),
    "monai-unet": ("monai:UNet", "U-Net of MONAI with residual units; set width and levels"),
    "deeponet": ("deeponet:DeepONet", "DeepONet with a convolutional branch; needs no library"),
}


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Register the models."""
    return [_entry(name, *about) for name, about in _MODELS.items()]


def _entry(name: str, factory: str, summary: str) -> ModelEntry:
    library = factory.partition(":")[0]
    modules = [library, "torch_harmonics"] if name == "neuralop-local-no" else [library]
    needs = {module: _EXTRAS[module] for module in modules if module in _EXTRAS}
    return ModelEntry(name, "1", f"pdefm_libraries.of_{factory}", summary, needs=needs)
