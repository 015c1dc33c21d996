"""SYS-2, steady advection-diffusion with constant coefficients (paper, section 3, equation 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from pdebench_fm.errors import RunError, SettingError
from pdebench_fm.interfaces.pde_system import named_columns
from pdebench_fm.interfaces.sampler import Parameters, Split
from pdebench_fm.streams import Stream
from pdefm_spectral import calibration, chunks, diffusion, settings, sources, versions
from pdefm_spectral.common import ConstantCoefficientSystem, GaussianSourceSampler, stream_name
from pdefm_spectral.ratio import AdvectionRatio

Mode = Literal["calibrated", "exact"]

LARGEST_SPEED = 20.0
"""Exact mode draws another direction if a target would need a larger s (our choice)."""
MOST_DIRECTIONS = 1000


class AdvectionDiffusion(ConstantCoefficientSystem):
    """−div(K∇u) + v·∇u = f, periodic, with u of zero mean.

    Inputs: ``source`` f; K = [[k11, k12], [k12, k22]], constant and positive definite (length² per time where f is per
    time); v = (v1, v2) along x and y (length per time). Output: ``solution`` u. The mean of f is ignored: the equation
    has no solution unless it is zero.

    Exact up to rounding for the trigonometric interpolant of f; the Nyquist convention is that of
    `pdefm_spectral.wavenumbers`. Multiplying f, K and v by one number does not change u.

    Args:
        grid: periodic, any size, odd or even.
    """

    constants = ("k11", "k22", "k12", "v1", "v2")

    def read_columns(self, columns: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return K and v: the columns of the authors' files, in the order of `constants` and on our axes."""
        return named_columns(columns, self.constants)


class AdvectionDiffusionSampler(GaussianSourceSampler):
    """Gaussian sources of zero mean, K as for SYS-1, and v = s (cos φ, sin φ), φ ~ U(0, 2π): SYS-2(Ψ₁, Ψ₂).

    Ψ = ‖v·∇u‖ / ‖div K∇u‖, in the 2-norm on the 128² grid. A target is drawn, uniform in ``ratio``; K is held, and s
    is chosen by ``mode``:

    - ``calibrated`` (the paper's way): at s the population's mean Ψ equals the target. What an example realises
      scatters about it, also beyond the ends of ``ratio``. The population is that of e ~ U(1, 5).
    - ``exact``: at s the example's own Ψ equals the target, to rounding. If that takes s > 20 (v nearly
      orthogonal to what moves u) another φ is drawn.

    Args:
        ratio: (Ψ₁, Ψ₂), 0 < Ψ₁ ≤ Ψ₂.
        mode: ``calibrated`` or ``exact``.
        eigenvalue: (e₁, e₂), 0 < e₁ ≤ e₂; e ~ U(e₁, e₂), the anisotropy of K.
        data_seed: names the data set.
        split: names the part of it.

    Raises:
        SettingError: a setting is out of its range, or a calibrated ratio beyond the calibration's table.
    """

    system = AdvectionDiffusion

    def __init__(
        self,
        ratio: tuple[float, float],
        mode: Mode = "calibrated",
        eigenvalue: tuple[float, float] = (1.0, 5.0),
        *,
        data_seed: int,
        split: Split,
    ) -> None:
        self._ratio = settings.positive_range("ratio", ratio)
        self._mode = settings.one_of("mode", mode, Mode)
        self._eigenvalue = settings.positive_range("eigenvalue", eigenvalue)
        lowest, highest = calibration.RATIOS[0], calibration.RATIOS[-1]
        if self._mode == "calibrated" and not lowest <= self._ratio[0] <= self._ratio[1] <= highest:
            low, high = self._ratio
            raise SettingError(
                "ratio", f"must lie within [{lowest:g}, {highest:g}] in calibrated mode, got [{low:g}, {high:g}]"
            )
        chosen = {"ratio": list(self._ratio), "mode": self._mode, "eigenvalue": list(self._eigenvalue)}
        name = stream_name("advection-diffusion", versions.ADVECTION_DIFFUSION, chosen, data_seed, split)
        self._stream = Stream(name, sources.WORDS + 3)
        self._directions = Stream({"of": "direction", **name}, 1)

    @property
    def physics(self) -> str:
        """The realised Ψ."""
        return "ratio"

    def draw(self, ids: Sequence[int]) -> Parameters:
        """Draw source weights, peak scale, mean, e, θ, K, target Ψ, φ, s, v, and the Ψ that comes of it.

        Raises:
            RunError: exact mode found no direction with s ≤ 20; the ratio is out of reach.
        """
        index = np.asarray(ids, dtype=np.int64)
        uniform = self._stream.uniform(ids)
        weights = sources.weights(uniform, sources.sparsity(ids))
        scale = 1 / sources.peak(weights)
        eigenvalue = diffusion.between(self._eigenvalue, uniform[:, sources.WORDS])
        theta = 2 * np.pi * uniform[:, sources.WORDS + 1]
        target = diffusion.between(self._ratio, uniform[:, sources.WORDS + 2])
        k = diffusion.tensor(eigenvalue, theta)
        settle = self._settle_exact if self._mode == "exact" else self._settle_calibrated
        pieces = [
            settle(index[part], weights[part], {name: value[part] for name, value in k.items()}, target[part])
            for part in chunks.of_rows(index)
        ]
        phi, speed, ratio = (np.concatenate(column) for column in zip(*pieces, strict=True))
        return {
            "weights": weights,
            "scale": scale,
            "mean": scale * sources.mean(weights),
            "eigenvalue": eigenvalue,
            "theta": theta,
            **k,
            "target_ratio": target,
            "ratio": ratio,
            "phi": phi,
            "speed": speed,
            "v1": speed * np.cos(phi),
            "v2": speed * np.sin(phi),
        }

    def _direction(self, ids: np.ndarray, attempt: int) -> np.ndarray:
        return 2 * np.pi * self._directions.uniform(ids.tolist(), attempt)[:, 0]

    def _settle_calibrated(
        self, ids: np.ndarray, weights: np.ndarray, k: Parameters, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        phi = self._direction(ids, 0)
        speed = calibration.speed(target)
        return phi, speed, AdvectionRatio(weights, k).along(phi).at(speed)

    def _settle_exact(
        self, ids: np.ndarray, weights: np.ndarray, k: Parameters, target: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        phi, speed, realised = np.empty_like(target), np.empty_like(target), np.empty_like(target)
        examples = AdvectionRatio(weights, k)
        pending = np.arange(len(ids))
        for attempt in range(MOST_DIRECTIONS):
            phi[pending] = self._direction(ids[pending], attempt)
            directed = examples.select(pending).along(phi[pending])
            reached = directed.at(np.full(len(pending), LARGEST_SPEED)) >= target[pending]
            done = pending[reached]
            directed = directed.select(np.flatnonzero(reached))
            speed[done] = directed.speed(target[done], LARGEST_SPEED)
            realised[done] = directed.at(speed[done])
            pending = pending[~reached]
            if not len(pending):
                return phi, speed, realised
        raise RunError(
            f"ratio: example {ids[pending[0]]} reaches Ψ = {target[pending[0]]:g} in none of "
            f"{MOST_DIRECTIONS} directions with s ≤ {LARGEST_SPEED:g}"
        )
