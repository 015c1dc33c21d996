"""A U-Net: the convolutional network to compare the FNO with."""

from __future__ import annotations

from pdebench_fm.hookspecs import ModelEntry, hookimpl


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Return ``unet``."""
    return [ModelEntry("unet", "2", "pdefm_unet.model:UNet", "U-Net with periodic padding; set width and levels")]
