"""The diffusion tensor K = 0.01 · Rᵀ diag(1, e) R, with R the rotation by θ."""

from __future__ import annotations

import numpy as np

SCALE = 0.01
"""From the authors' published code, not from the paper; it sets the scale of the solutions."""


def tensor(eigenvalue: np.ndarray, theta: np.ndarray) -> dict[str, np.ndarray]:
    """Return k11, k22 and k12, each (batch,): a symmetric tensor with eigenvalues 0.01 and 0.01 e.

    Args:
        eigenvalue: e, (batch,).
        theta: θ in radians, (batch,).
    """
    cosine, sine = np.cos(theta), np.sin(theta)
    return {
        "k11": SCALE * (cosine**2 + eigenvalue * sine**2),
        "k22": SCALE * (sine**2 + eigenvalue * cosine**2),
        "k12": SCALE * (eigenvalue - 1) * sine * cosine,
    }


def between(ends: tuple[float, float], uniform: np.ndarray) -> np.ndarray:
    """Map uniform numbers in [0, 1) to [low, high)."""
    low, high = ends
    return low + (high - low) * uniform
