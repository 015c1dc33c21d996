"""SYS-3, the Helmholtz equation with one wavenumber parameter (paper, section 3, equation 3, but see `Helmholtz`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pdebench_fm.errors import RunError
from pdebench_fm.interfaces.pde_system import named_columns
from pdebench_fm.interfaces.sampler import Parameters, Split
from pdebench_fm.problem import Grid
from pdebench_fm.streams import Stream
from pdefm_spectral import chunks, diffusion, modes, settings, sources, versions
from pdefm_spectral.common import ConstantCoefficientSystem, GaussianSourceSampler, stream_name
from pdefm_spectral.wavenumbers import axis_wavenumbers

MOST_ATTEMPTS = 20_000
"""Redraws of one example; the scarcest wavenumber (ω = 2, cap 2) passes once in about 250."""
_BOUND_REACHES = 100
"""The cheap bound on max|u| is used up to this ω; resonances of larger ones come near the modes that it leaves out."""
_TAIL = 1e-5
"""More than the modes left out can add to max|u| for ω ≤ 100, where they are damped by 0.01·4π²·29² − 100 > 230."""


class Helmholtz(ConstantCoefficientSystem):
    """−div(K∇u) − ωu = f, periodic.

    Inputs: ``source`` f, with its mean; K = [[k11, k12], [k12, k22]], constant (in the paper's data k11 = k22 = 0.01
    and k12 = 0, so that the equation is −0.01 Δu − ωu = f); ``omega`` ω ≠ 0 (per time, where K is length² per time).
    Output: ``solution`` u, with its mean −(mean f)/ω.

    The paper prints −Δu + ωu = f (equation 3). That operator is positive definite and its solutions do not oscillate;
    the authors' published data satisfy the equation above, which is indefinite and gives the oscillations that the
    paper describes. Resonance: u grows without bound as ω nears k·Kk for a mode k, here 0.39478·|m|², m integer. Where
    it is hit exactly, the mode is left out of f and u.

    Exact up to rounding for the trigonometric interpolant of f; the Nyquist convention is that of
    `pdefm_spectral.wavenumbers`. In float32 rounding is amplified near a resonance. Multiplying f, K and ω by one
    number leaves u as it is.

    Args:
        grid: periodic, any size, odd or even.
    """

    constants = ("k11", "k22", "k12", "omega")

    def read_columns(self, columns: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return K and ω of the authors' files, which have two columns: c, where K is c times the identity, and ω."""
        named = named_columns(columns, ("c", "omega"))
        c = named["c"]
        return {"k11": c, "k22": c, "k12": np.zeros_like(c), "omega": named["omega"]}


class HelmholtzSampler(GaussianSourceSampler):
    """Gaussian sources with their mean, K = 0.01, and ω uniform in the integers ω₁ … ω₂: SYS-3(ω₁, ω₂).

    Source and ω are redrawn, at the same sparsity, until max|u| ≤ ``amplitude_cap`` on the 128² grid, as in the
    authors' code. Near a resonance few draws pass, so the realised ω are not uniform: next to none is 2, few are 4.

    Args:
        wavenumber: (ω₁, ω₂), integers with 1 ≤ ω₁ ≤ ω₂, both included.
        amplitude_cap: largest |u| that is kept.
        data_seed: names the data set.
        split: names the part of it.

    Raises:
        SettingError: a setting is out of its range.
    """

    system = Helmholtz

    def __init__(
        self, wavenumber: tuple[int, int], amplitude_cap: float = 2.0, *, data_seed: int, split: Split
    ) -> None:
        self._wavenumber = settings.positive_integers("wavenumber", wavenumber)
        self._cap = settings.positive_number("amplitude_cap", amplitude_cap)
        chosen = {"wavenumber": list(self._wavenumber), "amplitude_cap": self._cap}
        name = stream_name("helmholtz", versions.HELMHOLTZ, chosen, data_seed, split)
        self._stream = Stream(name, sources.WORDS + 1)

    @property
    def physics(self) -> str:
        """The realised ω."""
        return "wavenumber"

    def draw(self, ids: Sequence[int]) -> Parameters:
        """Draw source weights, peak scale and ω until max|u| is within the cap.

        Raises:
            RunError: an example found none in 20,000 attempts; the cap is out of reach.
        """
        index = np.asarray(ids, dtype=np.int64)
        weights = np.empty((len(ids), sources.COUNT))
        scale, omega = np.empty(len(ids)), np.empty(len(ids))
        pending = np.arange(len(ids))
        for attempt in range(MOST_ATTEMPTS):
            weights[pending], scale[pending], omega[pending] = self._attempt(index[pending], attempt)
            drawn = [pending[part] for part in chunks.of_rows(pending)]
            kept = [within_cap(weights[rows], scale[rows], omega[rows], self._cap) for rows in drawn]
            pending = pending[~np.concatenate(kept)]
            if not len(pending):
                break
        else:
            low, high = self._wavenumber
            raise RunError(
                f"amplitude_cap: example {index[pending[0]]} found no solution with max|u| ≤ {self._cap:g} "
                f"in {MOST_ATTEMPTS} draws of ω in [{low}, {high}]"
            )
        constant = np.full(len(ids), diffusion.SCALE)
        return {
            "weights": weights,
            "scale": scale,
            "wavenumber": omega,
            "k11": constant,
            "k22": constant.copy(),
            "k12": np.zeros(len(ids)),
            "omega": omega.copy(),
        }

    def _attempt(self, ids: np.ndarray, attempt: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        uniform = self._stream.uniform(ids.tolist(), attempt)
        weights = sources.weights(uniform, sources.sparsity(ids))
        low, high = self._wavenumber
        omega = low + np.floor(uniform[:, sources.WORDS] * (high - low + 1))
        return weights, 1 / sources.peak(weights), omega


def within_cap(weights: np.ndarray, scale: np.ndarray, omega: np.ndarray, cap: float) -> np.ndarray:
    """Return whether max|u| ≤ cap on the 128² grid, (batch,).

    Σ|û| bounds max|u| from above and decides four in five. The root mean square bounds it from below and decides most
    examples near a resonance. The Fourier series of the energetic modes decides the rest, except ties and large ω,
    which are solved for.
    """
    series = modes.series(weights)
    series *= scale[:, None, None]
    series /= diffusion.SCALE * modes.series_laplacian() - omega[:, None, None]
    certain = omega <= _BOUND_REACHES
    kept: np.ndarray = certain & (modes.moduli(series).sum(axis=1) + _TAIL <= cap)
    for row in np.flatnonzero(~kept):
        decision = _decide(series[row], cap) if certain[row] else None
        kept[row] = largest(weights[row], scale[row], omega[row]) <= cap if decision is None else decision
    return kept


def _decide(series: np.ndarray, cap: float) -> bool | None:
    """Return whether max|u| ≤ cap for a Fourier series (58, 58), or None for a tie.

    The coefficients of what passes the first bound add up to 116 cap at most. So rounding to float32 moves the maximum
    by less than 1e-3 cap.
    """
    # A wave cos(ky y) cos(kx x) has the mean square 1/4, and more if a wavenumber is zero.
    if np.vdot(series, series) > 4 * (cap + _TAIL) ** 2:
        return False
    for dtype, margin in ((np.float32, 1e-3 * cap), (np.float64, _TAIL)):
        waves = modes.synthesis(dtype)
        peak = np.abs(waves @ series.astype(dtype) @ waves.T).max()
        if abs(peak - cap) > margin + _TAIL:
            return bool(peak <= cap)
    return None


def largest(weights: np.ndarray, scale: float, omega: float) -> float:
    """Return max|u| of one example on the 128² grid, in float64."""
    basis = sources.basis(sources.REFERENCE)
    source = basis @ (weights * scale).reshape(sources.SIDE, sources.SIDE) @ basis.T
    x, y = axis_wavenumbers(Grid(sources.REFERENCE))
    symbol = diffusion.SCALE * (x.second[None, :] + y.second[:, None]) - omega
    symbol[symbol == 0] = np.inf
    return float(np.abs(np.fft.irfft2(np.fft.rfft2(source) / symbol, s=source.shape)).max())
