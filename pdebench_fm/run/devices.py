"""Which device a run uses, and whether it has a precision."""

from __future__ import annotations

import re

from pdebench_fm.errors import UnknownNameError, UsageError
from pdebench_fm.training.precision import PRECISIONS


def resolve_device(device: str, here: bool = True) -> str:
    """Return the torch device to use.

    Args:
        here: whether it has to be on this machine.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if device.startswith("cuda") and here:
        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise UsageError(f"device {device!r}: this machine has {count} CUDA devices")
    return device


def check_precision(precision: str, device: str) -> None:
    """Check that a device has a precision; on a CPU, tf32 would be float32 under another name."""
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if precision == "tf32" and device == "cpu":
        raise UsageError("precision tf32 exists on CUDA devices only, and this run is on the cpu; use float32")
