"""The arithmetic of training. Evaluation is always full float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from pdebench_fm.errors import UsageError

Cast = Callable[[], contextlib.AbstractContextManager[Any]]
"""Makes the context of a forward pass."""

PRECISIONS = ("float32", "tf32", "bfloat16", "float64")


@contextlib.contextmanager
def matmul_precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products and convolutions within the block."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def single_precision(module: nn.Module) -> nn.Module:
    """Convert all weights to 32 bits (complex ones: each part) in place; return the module."""
    _convert(module, torch.complex128, torch.complex64)
    return module.float()


def _convert(module: nn.Module, old: torch.dtype, new: torch.dtype) -> None:
    """Convert complex weights and buffers, which `torch.nn.Module.double` does not."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype == old:
            tensor.data = tensor.data.to(new)


@contextlib.contextmanager
def training_precision(module: nn.Module, precision: str, device: torch.device) -> Iterator[Cast]:
    """Set the arithmetic of training within the block; yield what makes the context of a forward pass."""
    if precision not in PRECISIONS:
        raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    with matmul_precision(tf32=precision == "tf32"):
        if precision == "float64":
            _convert(module, torch.complex64, torch.complex128)
            module.double()
        if precision == "bfloat16":
            yield lambda: torch.autocast(device.type, torch.bfloat16)
        else:
            yield contextlib.nullcontext
