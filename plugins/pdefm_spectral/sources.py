"""Sources S(σ, s): sparse sums of Gaussians, divided by their maximum (paper, section 3 and appendix A).

    f(x, y) = Σ_ij p_ij g_i(y) g_j(x) / peak − mean,    g_i(x) = exp(−(x − c_i)² / 2σ²),    σ = 1/32

on 12 × 12 centres with spacing 2σ, centred on (0.5, 0.5). The weight p is uniform in (0.001, 1), and zero with
probability ``sparsity``. On a grid f = G P Gᵀ, with G of shape (n, 12).

Peak and mean are always those of the 128² grid, so an example is the same function at every resolution. The Gaussians
are not periodic: at the edges they are cut at exp(−12.5) = 4e-6 of their height. Their transform falls to 3e-9 at mode
32 and to 7e-3 at mode 16. So grids of 64² and more resolve them, and a 32² grid aliases them by up to 1%. There the
solution is that of the sampled source's interpolant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces.sampler import Parameters
from pdebench_fm.problem import Fields, Grid
from pdefm_spectral import chunks

if TYPE_CHECKING:
    import torch

SIDE = 12
COUNT = SIDE * SIDE
SIGMA = 1 / 32
CENTRES = 0.5 + (np.arange(SIDE) - (SIDE - 1) / 2) * 2 * SIGMA
SMALLEST = 0.001
SPARSITIES = (0.2, 0.4, 0.6, 0.8)
REFERENCE = 128
"""The grid on which peak, mean, Ψ and the amplitude cap are settled (the paper's)."""
WORDS = 2 * COUNT + 2
"""Random numbers that one source uses: amplitudes, zeroing, and the two that mend an all-zero draw."""


def sparsity(ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the sparsity of each example: the four levels take turns, so that every prefix holds all of them."""
    return np.array(SPARSITIES)[np.asarray(ids, dtype=np.int64) % len(SPARSITIES)]


def weights(uniform: np.ndarray, sparsity: np.ndarray) -> np.ndarray:
    """Return p, (batch, 144): at least one weight of each example is positive.

    Args:
        uniform: numbers in [0, 1), (batch, ≥ WORDS).
        sparsity: probability of a zero weight, (batch,).
    """
    amplitude = SMALLEST + (1 - SMALLEST) * uniform[:, :COUNT]
    amplitude[uniform[:, COUNT : 2 * COUNT] < sparsity[:, None]] = 0.0
    empty = np.flatnonzero(~amplitude.any(axis=1))
    chosen = (uniform[empty, 2 * COUNT] * COUNT).astype(np.int64)
    amplitude[empty, chosen] = SMALLEST + (1 - SMALLEST) * uniform[empty, 2 * COUNT + 1]
    return amplitude


def peak(weights: np.ndarray) -> np.ndarray:
    """Return max Σ p φ on the 128² grid, (batch,)."""
    # Outside the hull of the centres every Gaussian grows towards it, so the maximum is inside it: half the points.
    first = round(CENTRES[0] * REFERENCE)
    hull = basis(REFERENCE)[first : REFERENCE - first + 1]
    # Eight fields of float64 at a time: half a megabyte.
    return np.concatenate([_peak(weights[part], hull) for part in chunks.of_length(len(weights), 8)])


def mean(weights: np.ndarray) -> np.ndarray:
    """Return the mean of Σ p φ over the 128² grid, (batch,)."""
    average = basis(REFERENCE).mean(axis=0)
    means: np.ndarray = (weights * np.outer(average, average).ravel()).sum(axis=1)
    return means


def realise(
    parameters: Parameters, constants: Sequence[str], grid: Grid, device: torch.device | str, dtype: torch.dtype
) -> Fields:
    """Return ``source`` (batch, n, n) and the named constants (batch,).

    Args:
        parameters: ``weights``, ``scale``, the constants, and ``mean`` if it is removed.
        constants: names of the constants.
        grid: periodic, of length 1.
        device: where the fields are made.
        dtype: float32 or float64.

    Raises:
        UsageError: the grid is not the periodic unit square.
    """
    import torch

    if grid.length != 1.0 or not grid.periodic:
        raise UsageError("the Gaussian sources live on the periodic unit square")
    device = torch.device(device)
    # In float64 on a GPU: float32 products there follow the process-wide TF32 switch, and data must not.
    work = torch.float64 if device.type == "cuda" else dtype
    scaled = parameters["weights"] * parameters["scale"][:, None]
    p = torch.as_tensor(scaled).to(device, work).reshape(-1, SIDE, SIDE)
    g = torch.tensor(basis(grid.size)).to(device, work)
    offset = torch.as_tensor(parameters["mean"]).to(device, work) if "mean" in parameters else None
    source = torch.empty((len(p), grid.size, grid.size), device=device, dtype=dtype)
    for part in chunks.of_fields(source):
        field = torch.matmul(g @ p[part], g.T, out=source[part] if work == dtype else None)
        if offset is not None:
            field.sub_(offset[part, None, None])
        if work != dtype:
            source[part] = field
    return {"source": source, **{name: torch.as_tensor(parameters[name]).to(device, dtype) for name in constants}}


@lru_cache(maxsize=32)
def basis(n: int) -> np.ndarray:
    """Return G, (n, 12): the Gaussians along one axis, at the grid points i/n. Not to be written to."""
    points = np.arange(n)[:, None] / n
    table: np.ndarray = np.exp(-((points - CENTRES) ** 2) / (2 * SIGMA**2))
    table.flags.writeable = False
    return table


def _peak(weights: np.ndarray, hull: np.ndarray) -> np.ndarray:
    field = hull @ weights.reshape(-1, SIDE, SIDE) @ hull.T
    largest: np.ndarray = field.reshape(len(field), hull.shape[0] ** 2).max(axis=1)
    return largest
