"""The truncated transforms of the FNO by `torch.fft`: every mode is computed, and all but a few are thrown away.

What `pdefm_fno.spectral_convolution` does by matrix products, in its layout, for the ablation of `fno_step.py`; held to
it by `tests/benchmarks/test_by_fft.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from pdefm_fno import activation, spectral_convolution
from pdefm_fno.spectral_convolution import Tables
from torch import Tensor


def transform(field: Tensor, tables: Tables) -> Tensor:
    """As `pdefm_fno.spectral_convolution.transform`; the tables say how many modes, and in which direction."""
    along_x, along_y = tables
    rows = _analysed(field, len(along_x) // 2, dim=1)
    if _twice(along_x):
        rows[:, 1 : len(along_x) // 2] *= 2
        rows[:, len(along_x) // 2 + 1 :] *= 2
    return _analysed(rows, len(along_y) // 2, dim=0)


def transposed(parts: Tensor, tables: Tables, onto: Tensor | None = None) -> Tensor:
    """As `pdefm_fno.spectral_convolution.transposed`."""
    along_x, along_y = tables
    n = along_y.shape[1]
    columns = _synthesised(parts, n, dim=0, twice=False)
    field = _synthesised(columns, n, dim=1, twice=_twice(along_x))
    return field if onto is None else onto.add_(field)


@contextlib.contextmanager
def by_fft() -> Iterator[None]:
    """Let the FNO transform this way."""
    with contextlib.ExitStack() as stack:
        for module in (spectral_convolution, activation):
            stack.enter_context(mock.patch.multiple(module, transform=transform, transposed=transposed))
        yield


def _analysed(field: Tensor, count: int, dim: int) -> Tensor:
    """Cosine coefficients of the first modes along an axis, then those of negative sines."""
    kept = torch.fft.rfft(field, dim=dim, norm="ortho").narrow(dim, 0, count)
    return torch.cat([kept.real, kept.imag], dim=dim)


def _synthesised(coefficients: Tensor, n: int, dim: int, twice: bool) -> Tensor:
    """The transpose of `_analysed`; with ``twice`` modes above 0 count double.

    For irfft they do anyway, but for the last one of an even n.
    """
    real, imaginary = coefficients.chunk(2, dim=dim)
    spectrum = torch.complex(real.contiguous(), imaginary.contiguous())
    last = spectrum.shape[dim] - 1
    if 2 * last == n:
        spectrum.narrow(dim, last, 1).mul_(2)
    if not twice:
        spectrum.narrow(dim, 1, last).mul_(0.5)
    return torch.fft.irfft(spectrum, n=n, dim=dim, norm="ortho").contiguous()


def _twice(along_x: Tensor) -> bool:
    """Whether these are the tables of the inverse, in which columns above 0 count twice."""
    return bool(along_x[1, 0] > 1.5 * along_x[0, 0])
