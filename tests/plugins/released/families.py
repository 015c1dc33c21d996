"""The released families: how each is called, and how its published files are laid out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pdefm_released import dpot, morph, mpp, pde_transformer, pde_transformer_sc, poseidon
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

FIXTURES = Path(__file__).parent / "fixtures"
Call = Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, Any]], dict[str, Tensor]]


@dataclass(frozen=True)
class Family:
    """One family: its fixture, its loader, and how a recorded case is called."""

    name: str
    load: Callable[..., nn.Module]
    weights: str
    call: Call
    arguments: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return FIXTURES / self.name

    @property
    def file(self) -> Path:
        return self.folder / self.weights

    def read(self, file: Path | None = None) -> dict[str, Any]:
        """Return the content of a file of weights."""
        file = file or self.file
        return load_file(file) if file.suffix == ".safetensors" else _torch_load(file)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the fixture, by their names in the file."""
        return dict(weights_of(self.read()))

    def rewritten(self, folder: Path, tensors: Mapping[str, Tensor]) -> Path:
        """Copy the fixture's files into ``folder`` with other tensors; return the path to load."""
        target = folder / Path(self.weights).name
        for file in self.file.parent.iterdir():
            if file.suffix in (".json", ".yaml") and file != self.file:
                shutil.copy(file, folder)
        if target.suffix == ".safetensors":
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, target)
        else:
            content = self.read()
            key = weights_key(content)
            torch.save(dict(tensors) if key is None else {**content, key: dict(tensors)}, target)
        return target


def weights_key(content: Mapping[str, Any]) -> str | None:
    return next((key for key in ("model", "model_state", "model_state_dict") if key in content), None)


def weights_of(content: Mapping[str, Any]) -> Mapping[str, Tensor]:
    key = weights_key(content)
    return content if key is None else content[key]


def _torch_load(file: Path) -> dict[str, Any]:
    return torch.load(file, map_location="cpu", weights_only=False)  # our own fixture


def cases(family: Family) -> dict[str, dict[str, Any]]:
    """Return the recorded cases: inputs, outputs, replaced tensors, and what the note asks of the call."""
    found: dict[str, dict[str, Any]] = {}
    with safe_open(family.folder / "io.safetensors", "pt") as opened:
        about = json.loads(opened.metadata()["fixture"])
        for key in opened.keys():  # noqa: SIM118
            case, kind, name = key.split("/", 2)
            found.setdefault(case, {"in": {}, "out": {}, "replace": {}})[kind][name] = opened.get_tensor(key)
    for case, each in found.items():
        parts = [part for part in about["cases"][case].get("call", "").split(";") if part]
        each["options"] = dict(part.split("=") for part in parts if "=" in part)
        for part in parts:
            if part.startswith("input_of:"):
                each["in"] = found[part.removeprefix("input_of:")]["in"]
    return found


def _poseidon(network: nn.Module, inputs: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    result = network(**inputs)
    return {"output": result.output} | ({} if result.loss is None else {"loss": result.loss.reshape(1)})


def _dpot(network: nn.Module, inputs: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    sizes = network.sizes
    if "raw" in inputs:
        x = dpot.prepared(inputs["raw"], sizes.img_size, sizes.in_channels)
    else:
        x = inputs["x"] if "x" in inputs else inputs["frame"].expand(-1, -1, -1, sizes.in_timesteps, -1)
    prediction, logits = network(x)
    second, _ = network(torch.cat([x[..., 1:, :], prediction], dim=-2))
    return {"output": prediction, "cls": logits, "rollout2": second, "padded_last_frame": x[..., -1:, :]}


def _mpp(network: nn.Module, inputs: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    return {"output": network(**inputs)}


def _morph(network: nn.Module, inputs: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    _, latent, prediction = network(**inputs)
    return {"output": prediction, "latent": latent}


def _mixed(network: nn.Module, inputs: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    return {"sample": network(**inputs).sample}


def _separate(network: nn.Module, inputs: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
    lists = {name: list(stacked.unbind(0)) for name, stacked in inputs.items()}
    return {"sample": torch.stack(network(**lists).sample)}


FAMILIES = {
    "poseidon": Family("poseidon", poseidon.load_network, "model.safetensors", _poseidon, {}),
    "dpot": Family("dpot", dpot.load_network, "model_Ti.pth", _dpot, {}),
    "mpp": Family("mpp", mpp.load_network, "MPP_AViT_Ti", _mpp, {}),
    "morph": Family("morph", morph.load_network, "morph-Ti-FM-max_ar1_ep225.pth", _morph, {"heads": 2, "heads_xa": 4}),
    "pdetransformer": Family(
        "pdetransformer", pde_transformer.load_network, "mc-s/diffusion_pytorch_model.safetensors", _mixed, {}
    ),
    "pdetransformer_sc": Family(
        "pdetransformer_sc", pde_transformer_sc.load_network, "sc-s/diffusion_pytorch_model.safetensors", _separate, {}
    ),
}
