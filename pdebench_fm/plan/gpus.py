"""GPUs that a dry run knows by name, with the rates of their data sheets."""

from __future__ import annotations

from dataclasses import dataclass

from pdebench_fm.errors import UnknownNameError

SHARE = 0.5
"""Assumed share of a data sheet's rates that a training step reaches."""

LAUNCH = 5e-6
"""Assumed seconds between the starts of two operations; a step of few examples takes no less."""


@dataclass(frozen=True)
class Gpu:
    """Rates of a GPU.

    Args:
        name: for ``--device``.
        flops: float32 operations a second, outside of matrix units.
        bytes: of its memory a second, read and written.
        source: where these are from.
    """

    name: str
    flops: float
    bytes: float
    source: str


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("v100", 15.7e12, 0.9e12, "NVIDIA V100 data sheet, SXM2"),
        Gpu("a100", 19.5e12, 2.039e12, "NVIDIA A100 data sheet, 80 GB SXM"),
        Gpu("l40s", 91.6e12, 0.864e12, "NVIDIA L40S data sheet"),
        Gpu("h100", 67e12, 3.35e12, "NVIDIA H100 data sheet, SXM"),
        Gpu("h200", 67e12, 4.8e12, "NVIDIA H200 data sheet, SXM"),
        Gpu("mi300x", 163.4e12, 5.3e12, "AMD Instinct MI300X data sheet"),
    )
}


def find_gpu(name: str) -> Gpu:
    """Return a GPU by its name."""
    found = GPUS.get(name.lower())
    if found is None:
        raise UnknownNameError("device", name, ["auto", "cpu", "cuda", *GPUS])
    return found
