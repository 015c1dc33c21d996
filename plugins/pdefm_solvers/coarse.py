"""Fields on every k-th grid point, and their trigonometric interpolants on the whole grid."""

from __future__ import annotations

import torch
from pdefm_spectral.common import ConstantCoefficientSystem
from torch import Tensor

from pdebench_fm.errors import UnsupportedError
from pdebench_fm.interfaces import PDESystem
from pdebench_fm.problem import Fields, Grid


def coarse_grid(system: PDESystem, coarsen: int) -> Grid:
    """Return the grid of every ``coarsen``-th point.

    Raises:
        UnsupportedError: the system is none of `pdefm_spectral`, or the grid has no such points.
    """
    if not isinstance(system, ConstantCoefficientSystem):
        raise UnsupportedError(f"solves the three systems of pdefm_spectral, not {type(system).__name__}")
    grid = system.problem.grid
    if grid.size % coarsen or grid.size // coarsen < 4:
        raise UnsupportedError(
            f"a grid of {grid.size} points has none of at least 4 points that is {coarsen} times coarser"
        )
    return Grid(grid.size // coarsen, grid.length, grid.periodic)


def every(inputs: Fields, coarsen: int) -> dict[str, Tensor]:
    """Return fields (batch, n, n) at every ``coarsen``-th point; constants stay as they are."""
    return {
        name: value[:, ::coarsen, ::coarsen].contiguous() if value.ndim == 3 else value
        for name, value in inputs.items()
    }


def interpolate(field: Tensor, size: int) -> Tensor:
    """Return the trigonometric interpolant of a periodic field (batch, n, n) on ``size`` ≥ n points a side."""
    n = field.shape[-1]
    if n == size:
        return field
    spectrum = torch.fft.rfft2(field, norm="forward")
    half = n // 2
    if n % 2 == 0:  # the mode n/2 is half +n/2 and half −n/2
        spectrum[:, half] *= 0.5
        spectrum[:, :, half] *= 0.5
    wide = spectrum.new_zeros(len(field), size, size // 2 + 1)
    wide[:, : half + 1, : half + 1] = spectrum[:, : half + 1]
    wide[:, size - half :, : half + 1] = spectrum[:, n - half :]
    fine: Tensor = torch.fft.irfft2(wide, s=(size, size), norm="forward")
    return fine
