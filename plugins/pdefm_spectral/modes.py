"""The Fourier coefficients of a source by small matrix products, on the modes that hold its energy.

The Gaussian sum is separable, so its discrete Fourier transform on the 128² grid is too: f̂ = Ĝ P Ĝᵀ. Modes above 28
hold less than 1e-12 of the energy and are left out. Real arithmetic: with C and S the cosine and sine transforms of G,
cc = C P Cᵀ and so on, the coefficient at (kx, ±ky) is (cc ∓ ss) − i (cs ± sc).

Every function here returns the same bits for an example whatever batch it is in.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from pdefm_spectral import sources

CUTOFF = 28
_LINE = CUTOFF + 1


def energies(weights: np.ndarray) -> np.ndarray:
    """Return |f̂|² of the Gaussian sums, (batch, modes), without the mean.

    A mode and its complex conjugate count as one, with their energies added. The order is that of `wavevectors`.
    """
    # √2 for kx, ky > 0 (a mode with its conjugate), 1 if one of them is 0: those modes are listed twice, as ±0.
    squares = _squares(_products(weights, constant=2**-0.25, other=2**0.25))
    squares[:, 0] = squares[:, _LINE**2] = 0.0
    return squares


def series(weights: np.ndarray) -> np.ndarray:
    """Return U, (batch, 58, 58): the real Fourier series of the Gaussian sums, f = E U Eᵀ with E = `synthesis()`."""
    return _products(weights, constant=1.0, other=2.0)


def moduli(series: np.ndarray) -> np.ndarray:
    """Return moduli, (batch, modes), whose sum over the modes is Σ |f̂| over all wavevectors, and so bounds |f|."""
    squares = _squares(series)
    squares *= 0.25
    np.sqrt(squares, out=squares)
    return squares


@lru_cache(maxsize=2)
def synthesis(dtype: type[np.floating[Any]] = np.float64) -> np.ndarray:
    """Return E, (128, 58): cosines of the modes 0 … 28 at the grid points, then their sines."""
    return np.ascontiguousarray(_waves().T, dtype=dtype)


@lru_cache(maxsize=1)
def wavevectors() -> tuple[np.ndarray, np.ndarray]:
    """Return kx and ky, each (modes,): ky ≥ 0 first, then ky ≤ 0; kx ≥ 0."""
    k = 2 * np.pi * np.arange(_LINE)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    return np.concatenate([kx.ravel(), kx.ravel()]), np.concatenate([ky.ravel(), -ky.ravel()])


@lru_cache(maxsize=1)
def series_laplacian() -> np.ndarray:
    """Return |k|², (58, 58): what −Δ multiplies a `series` by."""
    square = (2 * np.pi * np.tile(np.arange(_LINE), 2)) ** 2
    squares: np.ndarray = square[:, None] + square[None, :]
    return squares


def _products(weights: np.ndarray, constant: float, other: float) -> np.ndarray:
    """Return [cc cs; sc ss], (batch, 58, 58); along each axis mode 0 carries ``constant`` and the others ``other``."""
    transform = _transform(constant, other)
    products: np.ndarray = transform @ weights.reshape(-1, sources.SIDE, sources.SIDE) @ transform.T
    return products


def _squares(products: np.ndarray) -> np.ndarray:
    """Return the squared moduli at (kx, ky), then at (kx, −ky), (batch, modes)."""
    cc, cs = products[:, :_LINE, :_LINE], products[:, :_LINE, _LINE:]
    sc, ss = products[:, _LINE:, :_LINE], products[:, _LINE:, _LINE:]
    squares = np.empty((len(products), 2, _LINE, _LINE))
    np.square(cc - ss, out=squares[:, 0])
    squares[:, 0] += np.square(cs + sc)
    np.square(cc + ss, out=squares[:, 1])
    squares[:, 1] += np.square(cs - sc)
    return squares.reshape(len(products), -1)


def _waves() -> np.ndarray:
    n = sources.REFERENCE
    phase = 2 * np.pi * (np.outer(np.arange(_LINE), np.arange(n)) % n) / n
    return np.concatenate([np.cos(phase), np.sin(phase)])


@lru_cache(maxsize=2)
def _transform(constant: float, other: float) -> np.ndarray:
    """Cosine and sine transforms of the Gaussians along one axis, (58, 12), multiplied as `_products` says."""
    factor = np.full((_LINE, 1), other)
    factor[0] = constant
    table = np.concatenate([factor, factor]) * (_waves() @ sources.basis(sources.REFERENCE)) / sources.REFERENCE
    return np.ascontiguousarray(table)
