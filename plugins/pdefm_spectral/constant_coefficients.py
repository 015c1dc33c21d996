"""Linear operators with constant coefficients on a periodic square, inverted in Fourier space.

    L u = −div(K∇u) + v·∇u − ωu,    L̂(k) = k11 kx² + k22 ky² + 2 k12 kx ky + i (v1 kx + v2 ky) − ω

Array convention: fields are (batch, y, x); kx runs along the last axis; k = 2π/length × integer.

With the Nyquist convention of `pdefm_spectral.wavenumbers` L maps real fields to real fields, and `solve` and `apply`
are inverses of each other on every grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pdebench_fm.errors import UsageError
from pdebench_fm.problem import Grid
from pdefm_spectral import chunks
from pdefm_spectral.wavenumbers import axis_wavenumbers

_Work = Callable[[Tensor, Sequence[Tensor]], Tensor]


class ConstantCoefficientOperator:
    """L on one grid, for a batch of coefficients.

    Args:
        grid: periodic.
        names: which coefficients L has, in the order in which they are given: k11, k22, k12, then v1, v2 or omega.

    Raises:
        UsageError: the grid is not periodic.
    """

    def __init__(self, grid: Grid, names: Sequence[str]) -> None:
        if not grid.periodic:
            raise UsageError("the spectral systems need a periodic grid")
        self._size = grid.size
        self._names = tuple(names)
        self._x, self._y = axis_wavenumbers(grid)
        self._tables: dict[tuple[torch.device, torch.dtype], dict[str, Tensor]] = {}

    def solve(self, source: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """Return u with L u = f, (batch, n, n). Components of f that L cannot reach (L̂ = 0) are left out of both.

        Without ω the mean is such a component: the mean of f is ignored and u has zero mean.
        """
        return self._in_chunks(self._solve, source, coefficients)

    def apply(self, field: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """Return L u, (batch, n, n)."""
        return self._in_chunks(self._apply, field, coefficients)

    def _in_chunks(self, work: _Work, fields: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        parts = chunks.of_fields(fields)
        if len(parts) == 1:
            return work(fields, coefficients)
        # Not a list joined at the end: that would keep every chunk, and the next could not reuse its memory.
        result = torch.empty_like(fields)
        for part in parts:
            result[part] = work(fields[part], [coefficient[part] for coefficient in coefficients])
        return result

    def _apply(self, field: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        symbol = self._symbol(field, coefficients)
        spectrum = torch.fft.rfft2(field, norm="forward")
        _pairs(spectrum, symbol).mul_(symbol)
        return _inverse(spectrum, self._size)

    def _solve(self, source: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        # The 1/n² of the transform pair goes into the coefficients: one pass over the spectrum less.
        symbol = self._symbol(source, [coefficient * float(self._size**2) for coefficient in coefficients])
        if "omega" not in self._names:  # the mean is the one mode with a zero symbol, K being positive definite
            symbol[:, 0, : 1 if symbol.is_complex() else 2] = 1.0
        elif symbol.abs().amin() == 0:  # rarely; looking is cheaper than masking
            symbol = symbol.masked_fill(symbol == 0, torch.inf)
        spectrum = torch.fft.rfft2(source)
        _pairs(spectrum, symbol).div_(symbol)
        if "omega" not in self._names:
            spectrum[:, 0, 0] = 0.0
        del symbol  # memory still in the cache, which the inverse transform can use
        return _inverse(spectrum, self._size)

    def _symbol(self, like: Tensor, coefficients: Sequence[Tensor]) -> Tensor:
        """L̂ on the half plane of rfft2: complex (batch, n, n//2 + 1) if L has a velocity.

        Otherwise real, every number twice, (batch, n, 2 (n//2 + 1)): the real and imaginary parts of a spectrum side by
        side can be divided by it four times faster than complex numbers by complex ones.
        Elementwise on purpose: a matrix product would be as fast but follows the process-wide TF32 switches.
        """
        table = self._table(like)
        value = {
            name: coefficient.to(like)[:, None, None]
            for name, coefficient in zip(self._names, coefficients, strict=True)
        }
        along_x = value["k11"] * table["xx"]
        if "omega" in value:
            along_x = along_x - value["omega"]
        even = torch.addcmul(along_x + value["k22"] * table["yy"], value["k12"], table["xy"])
        if "v1" not in value:
            return even
        return torch.complex(even, value["v1"] * table["x"] + value["v2"] * table["y"])

    def _table(self, like: Tensor) -> dict[str, Tensor]:
        key = (like.device, like.dtype)
        if key not in self._tables:
            x, y = self._x, self._y
            twice = 1 if "v1" in self._names else 2
            arrays = {
                "xx": np.repeat(x.second, twice)[None, :],
                "yy": y.second[:, None],
                "xy": 2 * y.first[:, None] * np.repeat(x.first, twice)[None, :],
                "x": x.first[None, :],
                "y": y.first[:, None],
            }
            self._tables[key] = {name: torch.as_tensor(array).to(like) for name, array in arrays.items()}
        return self._tables[key]


def _pairs(spectrum: Tensor, symbol: Tensor) -> Tensor:
    """View a spectrum (batch, n, h) as the symbol is laid out: as reals (batch, n, 2h) if that is real."""
    return spectrum if symbol.is_complex() else torch.view_as_real(spectrum).flatten(-2)


def _inverse(spectrum: Tensor, size: int) -> Tensor:
    """The inverse of rfft2 without its 1/n²."""
    field: Tensor = torch.fft.irfft2(spectrum, s=(size, size), norm="forward")
    return field
