"""The truncated Fourier transforms of an FNO as real matrix products.

An FNO keeps the modes k_y = −m … m−1, k_x = 0 … m−1 of an n × n grid. Only those are transformed here, by products with
precomputed cosines and sines, first along x, then along y. The result is, to rounding, what orthonormal
`torch.fft.rfft2` and `torch.fft.irfft2` give on the kept modes, with no complex dtype, no zero-filled spectrum, and a
backward pass as cheap as the forward.

Layouts: a field is (n, n, batch, channels), indexed [y, x, …]. A spectrum is (2, 2m, m, batch, channels): real and
imaginary part, k_y in FFT order 0 … m−1, −m … −1, and k_x. Every product is then one contiguous (batched) GEMM.

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
"""Along x, (2m, n): cosines of k_x = 0 … m−1, then negative sines. Along y, (4m, 2n): e^(−i k_y y) as a real matrix."""


@lru_cache(maxsize=64)
def tables(n: int, m: int, dtype: torch.dtype, device: torch.device) -> tuple[Tables, Tables]:
    """Return the matrices of the forward transform, and those whose transpose is the inverse; made in float64."""

    def waves(k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # The angle is reduced in integers, so that every entry is correctly rounded whatever n.
        angle = 2 * np.pi / n * (np.outer(k, np.arange(n)) % n)
        return np.cos(angle) / np.sqrt(n), -np.sin(angle) / np.sqrt(n)

    along_x = np.concatenate(waves(np.arange(m)))
    cosine, sine = waves(np.concatenate([np.arange(m), np.arange(-m, 0)]))
    # Columns are (y, part): what arrives from the transform along x is complex.
    along_y = np.concatenate([np.stack([cosine, -sine], axis=2), np.stack([sine, cosine], axis=2)]).reshape(
        4 * m, 2 * n
    )
    twice = along_x * np.tile(np.where(np.arange(m) == 0, 1.0, 2.0), 2)[:, None]
    with torch.inference_mode(False):  # made during inference, a table must still serve training afterwards
        x, y, x2 = (torch.as_tensor(table, dtype=dtype).to(device) for table in (along_x, along_y, twice))
    return (x, y), (x2, y)


def analyse(field: Tensor, m: int) -> Tensor:
    """Transform to the kept modes: (n, n, batch, channels) → (2, 2m, m, batch, channels)."""
    (field,) = _working(field)
    n, _, batch, channels = field.shape
    forward, _ = tables(n, m, field.dtype, field.device)
    return _forward(field.reshape(n, n, -1), forward).view(2, 2 * m, m, batch, channels)


def synthesise(spectrum: Tensor, field: Tensor, weight: Tensor) -> Tensor:
    """Transform back and add a 1×1 convolution, in one buffer: the two branches of a Fourier layer.

    Args:
        spectrum: (2, 2m, m, batch, out).
        field: (n, n, batch, in), what the 1×1 convolution is applied to.
        weight: (out, in).

    Returns:
        (n, n, batch, out).
    """
    spectrum, field, weight = _working(spectrum, field, weight)
    _, inverse = tables(field.shape[0], spectrum.shape[2], spectrum.dtype, spectrum.device)
    total: Tensor = _Synthesis.apply(spectrum, field, weight, *inverse)  # type: ignore[no-untyped-call]
    return total.view(*field.shape[:3], -1)


def mix(spectrum: Tensor, weight: Tensor) -> Tensor:
    """Multiply every mode by its own complex matrix.

    Args:
        spectrum: (2, 2m, m, batch, in).
        weight: (2, 2m, m, in, out).

    Returns:
        (2, 2m, m, batch, out).
    """
    spectrum, weight = _working(spectrum, weight)
    mixed: Tensor = _Mix.apply(spectrum, weight)  # type: ignore[no-untyped-call]
    return mixed


def _working(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, bring all to its dtype, as it would for any matrix product; in-place ones it leaves to us."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


def _forward(field: Tensor, tables: Tables) -> Tensor:
    """(n, n, anything) → (4m, m · anything)."""
    along_x, along_y = tables
    n, modes = len(field), len(along_x) // 2
    rows = torch.bmm(along_x.expand(n, -1, -1), field)
    return torch.mm(along_y, rows.view(2 * n, modes * field.shape[2]))


def _transposed(spectrum: Tensor, tables: Tables) -> Tensor:
    """The transpose of `_forward`: (4m, m · anything) → (n, n, anything)."""
    along_x, along_y = tables
    n = along_x.shape[1]
    rows = torch.mm(along_y.t(), spectrum).view(n, len(along_x), -1)
    return torch.bmm(along_x.t().expand(n, -1, -1), rows)


class _Synthesis(torch.autograd.Function):
    """Autograd alone would copy the field to add the second product onto the first."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, field: Tensor, weight: Tensor, along_x: Tensor, along_y: Tensor) -> Tensor:
        ctx.save_for_backward(field, weight, along_x, along_y)
        total = _transposed(spectrum.reshape(len(along_y), -1), (along_x, along_y))
        total.view(-1, len(weight)).addmm_(field.reshape(-1, weight.shape[1]), weight.t())
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        field, weight, along_x, along_y = ctx.saved_tensors
        modes = len(along_x) // 2
        flat = gradients[0].reshape(-1, len(weight))
        to_spectrum = _forward(gradients[0], (along_x, along_y)).view(2, 2 * modes, modes, field.shape[2], len(weight))
        to_field = torch.mm(flat, weight).view_as(field) if ctx.needs_input_grad[1] else None
        return to_spectrum, to_field, torch.mm(flat.t(), field.reshape(-1, weight.shape[1])), None, None


class _Mix(torch.autograd.Function):
    """Four real products for a complex one, each added onto the last in place."""

    @staticmethod
    def forward(ctx: Any, spectrum: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(spectrum, weight)
        mixed = spectrum.new_empty(*spectrum.shape[:-1], weight.shape[-1])
        (xr, xi), (wr, wi), (yr, yi) = (part.flatten(1, 2).unbind(0) for part in (spectrum, weight, mixed))
        torch.bmm(xr, wr, out=yr).baddbmm_(xi, wi, alpha=-1)
        torch.bmm(xr, wi, out=yi).baddbmm_(xi, wr)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        spectrum, weight = ctx.saved_tensors
        (xr, xi), (wr, wi), (gr, gi) = (part.flatten(1, 2).unbind(0) for part in (spectrum, weight, gradients[0]))
        (xr, xi), (wr, wi) = (xr.mT, xi.mT), (wr.mT, wi.mT)
        to_spectrum = torch.stack([torch.bmm(gr, wr).baddbmm(gi, wi), torch.bmm(gi, wr).baddbmm(gr, wi, alpha=-1)])
        to_weight = torch.stack([torch.bmm(xr, gr).baddbmm(xi, gi), torch.bmm(xr, gi).baddbmm(xi, gr, alpha=-1)])
        return to_spectrum.view_as(spectrum), to_weight.view_as(weight)
