"""The arithmetic of training. Evaluation is always full float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

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


@contextlib.contextmanager
def training_precision(module: nn.Module, precision: str, device: torch.device) -> Iterator[Cast]:
    """Set the arithmetic of training within the block; yield what makes the context of a forward pass.

    With ``float64`` all weights and buffers are widened, and have their own types again after the block.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    own: dict[str, torch.dtype] = {}
    with matmul_precision(tf32=precision == "tf32"):
        if precision == "float64":
            for name, tensor in _tensors(module):
                own[name] = tensor.dtype
                if tensor.is_floating_point() or tensor.is_complex():
                    tensor.data = tensor.data.to(torch.complex128 if tensor.is_complex() else torch.float64)
        try:
            if precision == "bfloat16":
                yield lambda: torch.autocast(device.type, torch.bfloat16)
            else:
                yield contextlib.nullcontext
        finally:
            for name, tensor in _tensors(module):
                tensor.data = tensor.data.to(own.get(name, tensor.dtype))


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
