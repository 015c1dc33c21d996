"""The truncated Fourier transforms of an FNO as real matrix products.

An FNO keeps the modes k_y = −m … m−1, k_x = 0 … m−1 of an n × n grid. Only those are transformed here, by products with
precomputed cosines and sines, first along x, then along y. To rounding, the result is that of orthonormal
`torch.fft.rfft2` and `torch.fft.irfft2` on the kept modes. It needs no complex dtype and no zero-filled spectrum, and
the backward pass is as cheap as the forward.

A field is (n, n, batch, channels), indexed [y, x, …]. Its *parts* are its coefficients for the cosines of k = 0 … m
and then the negative sines along y, times the same for k = 0 … m−1 along x: (2m + 2, 2m, batch, channels). They are
real and half the work of the complex spectrum, since the modes +k_y and −k_y are sums and differences of the same four
numbers (`pdefm_fno.mixing`). Every product is one contiguous (batched) GEMM.

The inverse is the transpose of the forward transform with the columns k_x > 0 counted twice, for their conjugates. For
k_x = 0 `irfft2` transforms over y and then discards the imaginary part; here the sine of k_x = 0 is zero: the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

Tables = tuple[Tensor, Tensor]
"""Along x, (2m, n): cosines of k = 0 … m−1, then negative sines. Along y, (2m + 2, n): the same for k = 0 … m."""


@lru_cache(maxsize=64)
def tables(n: int, m: int, dtype: torch.dtype, device: torch.device) -> tuple[Tables, Tables]:
    """Return the matrices of the forward transform, and those whose transpose is the inverse; made in float64."""

    def waves(k: np.ndarray) -> np.ndarray:
        # The angle is reduced in integers, so every entry is correctly rounded for any n.
        angle = 2 * np.pi / n * (np.outer(k, np.arange(n)) % n)
        both: np.ndarray = np.concatenate([np.cos(angle), -np.sin(angle)]) / np.sqrt(n)
        return both

    along_x, along_y = waves(np.arange(m)), waves(np.arange(m + 1))
    twice = along_x * np.tile(np.where(np.arange(m) == 0, 1.0, 2.0), 2)[:, None]
    with torch.inference_mode(False):  # made during inference, a table must still serve training afterwards
        x, y, x2 = (torch.as_tensor(table, dtype=dtype).to(device) for table in (along_x, along_y, twice))
    return (x, y), (x2, y)


def analyse(field: Tensor, m: int) -> Tensor:
    """Transform to the kept modes: (n, n, batch, channels) → parts (2m + 2, 2m, batch, channels)."""
    (field,) = working(field)
    forward, _ = tables(len(field), m, field.dtype, field.device)
    return transform(field, forward)


def synthesise(parts: Tensor, field: Tensor, weight: Tensor) -> Tensor:
    """Transform back and add a 1×1 convolution, in one buffer: the two branches of a Fourier layer.

    Args:
        parts: (2m + 2, 2m, batch, out).
        field: (n, n, batch, in), what the 1×1 convolution is applied to.
        weight: (out, in).

    Returns:
        (n, n, batch, out).
    """
    parts, field, weight = working(parts, field, weight)
    _, inverse = tables(len(field), parts.shape[1] // 2, parts.dtype, parts.device)
    total: Tensor = _Synthesis.apply(parts, field, weight, inverse)  # type: ignore[no-untyped-call]
    return total


def working(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, bring all to its dtype, as it would for any matrix product; in-place ones it leaves to us."""
    device = tensors[0].device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # autocast does not know meta
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def transform(field: Tensor, tables: Tables) -> Tensor:
    """(n, n, batch, channels) → (2m + 2, 2m, batch, channels)."""
    along_x, along_y = tables
    n, _, batch, channels = field.shape
    rows = torch.bmm(along_x.expand(n, -1, -1), field.reshape(n, n, -1))
    return torch.mm(along_y, rows.view(n, -1)).view(len(along_y), len(along_x), batch, channels)


def transposed(parts: Tensor, tables: Tables, onto: Tensor | None = None) -> Tensor:
    """The transpose of `transform`: (2m + 2, 2m, batch, channels) → (n, n, batch, channels).

    Args:
        parts: (2m + 2, 2m, batch, channels).
        tables: those of `transform`.
        onto: contiguous, of the result's shape; the result is added to it in place, and it is returned.
    """
    along_x, along_y = tables
    n, (batch, channels) = along_y.shape[1], parts.shape[2:]
    rows = torch.mm(along_y.t(), parts.reshape(len(along_y), -1)).view(n, len(along_x), -1)
    columns = along_x.t().expand(n, -1, -1)
    if onto is None:
        return torch.bmm(columns, rows).view(n, n, batch, channels)
    onto.view(n, n, -1).baddbmm_(columns, rows)
    return onto


class _Synthesis(torch.autograd.Function):
    """Adds the second product onto the first in place; autograd would copy the field."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, field: Tensor, weight: Tensor, tables: Tables) -> Tensor:
        ctx.save_for_backward(field, weight)
        ctx.tables = tables
        total = transposed(parts, tables)
        total.view(-1, len(weight)).addmm_(field.reshape(-1, weight.shape[1]), weight.t())
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        field, weight = ctx.saved_tensors
        (gradient,) = gradients
        flat = gradient.reshape(-1, len(weight))
        to_field = torch.mm(flat, weight).view_as(field) if ctx.needs_input_grad[1] else None
        to_weight = torch.mm(flat.t(), field.reshape(-1, weight.shape[1]))
        return transform(gradient, ctx.tables), to_field, to_weight, None
