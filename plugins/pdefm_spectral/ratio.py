"""The advection-to-diffusion ratio Ψ of an example as a function of its speed, and the inverse of that function.

With û = f̂ / (D + i s A), where D = k·Kk and A = k·(cos φ, sin φ),

    Ψ² = s² Σ A²|û|² / Σ D²|û|²        or, with w = |f̂|² and q = (A/D)²,
    Ψ² / (1 + Ψ²) = Σ w · s²q / (1 + s²q) / Σ w

The right side is a weighted mean of logistic functions of log s², so it grows strictly. The slope of its logit in
log s² is in (0, 1], and Newton's method needs a handful of steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pdebench_fm.errors import RunError
from pdebench_fm.interfaces.sampler import Parameters
from pdefm_spectral import modes

_MOST_STEPS = 200


class AdvectionRatio:
    """A batch of sources and diffusion tensors, still without a direction.

    Args:
        weights: of the Gaussians, (batch, 144).
        k: arrays k11, k22 and k12, each (batch,).
    """

    def __init__(self, weights: np.ndarray, k: Parameters) -> None:
        energy = modes.energies(weights)
        self._energy = energy / energy.sum(axis=1, keepdims=True)
        kx, ky, xx, yy, xy = _products()
        self._diffusion = k["k11"][:, None] * xx
        self._diffusion += k["k22"][:, None] * yy
        self._diffusion += k["k12"][:, None] * xy
        self._kx, self._ky = kx, ky

    def select(self, rows: np.ndarray) -> AdvectionRatio:
        """Return the examples ``rows``."""
        chosen = object.__new__(AdvectionRatio)
        chosen._energy, chosen._diffusion = self._energy[rows], self._diffusion[rows]
        chosen._kx, chosen._ky = self._kx, self._ky
        return chosen

    def along(self, phi: np.ndarray) -> DirectedRatio:
        """Give every example its direction φ in radians, (batch,)."""
        slope = np.cos(phi)[:, None] * self._kx
        slope += np.sin(phi)[:, None] * self._ky
        slope /= self._diffusion
        return DirectedRatio(self._energy, np.square(slope, out=slope))


class DirectedRatio:
    """Ψ(s) of a batch of examples.

    Args:
        energy: w, (batch, modes), each row adding up to 1.
        quotient: q, (batch, modes).
    """

    def __init__(self, energy: np.ndarray, quotient: np.ndarray) -> None:
        self._energy = energy
        self._quotient = quotient

    def select(self, rows: np.ndarray) -> DirectedRatio:
        """Return the examples ``rows``."""
        return DirectedRatio(self._energy[rows], self._quotient[rows])

    def at(self, speed: np.ndarray) -> np.ndarray:
        """Return Ψ at the speeds s, (batch,)."""
        share, _ = self._share(speed**2)
        ratio: np.ndarray = np.sqrt(share / (1 - share))
        return ratio

    def speed(self, target: np.ndarray, largest: float) -> np.ndarray:
        """Return s with Ψ(s) = target, (batch,); each target must be reached at ``largest``.

        Raises:
            RunError: the iteration did not settle (it always does for finite data).
        """
        goal = 2 * np.log(target)
        share = target**2 / (1 + target**2)
        # Σ w s²q/(1 + s²q) ≤ s² Σ w q bounds the root from below.
        low = np.log(share / np.einsum("bm,bm->b", self._energy, self._quotient))
        high = np.full_like(low, 2 * np.log(largest))
        high = np.maximum(high, low)
        position, moving = low.copy(), np.arange(len(low))
        for _ in range(_MOST_STEPS):
            if not len(moving):
                break
            here = position[moving]
            examples = self if len(moving) == len(low) else self.select(moving)
            value, slope = examples._share(np.exp(here))
            error = np.log(value / (1 - value)) - goal[moving]
            low[moving] = np.where(error < 0, here, low[moving])
            high[moving] = np.where(error >= 0, here, high[moving])
            step = -error * value * (1 - value) / slope
            ahead = here + step
            outside = (ahead < low[moving]) | (ahead > high[moving])
            ahead[outside] = 0.5 * (low[moving] + high[moving])[outside]
            position[moving] = ahead
            # Newton converges quadratically: after a step of 1e-7 the next would be rounding.
            moving = moving[np.abs(ahead - here) > 1e-7]
        else:
            raise RunError("the search for a speed did not settle")
        speed: np.ndarray = np.exp(0.5 * position)
        return speed

    def _share(self, square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return Ψ²/(1 + Ψ²) at s² and its derivative by log s², each (batch,)."""
        # In place where it can be: fewer temporaries, so that a chunk stays in the cache.
        product = self._quotient * square[:, None]
        weighted = product + 1
        logistic = np.divide(product, weighted, out=product)
        np.multiply(self._energy, logistic, out=weighted)
        share = weighted.sum(axis=1)
        return share, share - np.einsum("bm,bm->b", weighted, logistic)


@lru_cache(maxsize=1)
def _products() -> tuple[np.ndarray, ...]:
    """Wavevectors and what D is made of; the mean, which has no energy, is given a harmless D."""
    kx, ky = modes.wavevectors()
    mean = (kx == 0) & (ky == 0)
    return kx, ky, np.where(mean, 1.0, kx**2), np.where(mean, 1.0, ky**2), 2 * kx * ky
