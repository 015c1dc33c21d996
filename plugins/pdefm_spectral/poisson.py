"""SYS-1, Poisson's equation with an anisotropic constant diffusion tensor (paper, section 3, equation 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pdebench_fm.interfaces.pde_system import named_columns
from pdebench_fm.interfaces.sampler import Parameters, Split
from pdebench_fm.streams import Stream
from pdefm_spectral import diffusion, settings, sources, versions
from pdefm_spectral.common import ConstantCoefficientSystem, GaussianSourceSampler, stream_name


class Poisson(ConstantCoefficientSystem):
    """−div(K∇u) = f, periodic, with u of zero mean.

    Inputs: ``source`` f, and K = [[k11, k12], [k12, k22]], constant and positive definite (length² per time where f is
    per time). Output: ``solution`` u. The mean of f is ignored: the equation has no solution unless it is zero.

    Exact up to rounding for the trigonometric interpolant of f; the Nyquist convention is that of
    `pdefm_spectral.wavenumbers`. Multiplying f and K by one number does not change u.

    Args:
        grid: periodic, any size, odd or even.
    """

    constants = ("k11", "k22", "k12")

    def read_columns(self, columns: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return K: the columns of the authors' files, in the order of `constants` and on our axes."""
        return named_columns(columns, self.constants)


class PoissonSampler(GaussianSourceSampler):
    """Gaussian sources of zero mean, and K with eigenvalues 0.01 and 0.01 e, rotated by θ ~ U(0, 2π): SYS-1(e₁, e₂).

    Args:
        eigenvalue: (e₁, e₂), 0 < e₁ ≤ e₂; e ~ U(e₁, e₂), the anisotropy of K.
        data_seed: names the data set.
        split: names the part of it.

    Raises:
        SettingError: a setting is out of its range.
    """

    system = Poisson

    def __init__(self, eigenvalue: tuple[float, float], *, data_seed: int, split: Split) -> None:
        self._eigenvalue = settings.positive_range("eigenvalue", eigenvalue)
        chosen = {"eigenvalue": list(self._eigenvalue)}
        name = stream_name("poisson", versions.POISSON, chosen, data_seed, split)
        self._stream = Stream(name, sources.WORDS + 2)

    @property
    def physics(self) -> str:
        """The anisotropy e."""
        return "eigenvalue"

    def draw(self, ids: Sequence[int]) -> Parameters:
        """Draw source weights, peak scale, mean, e, θ and K."""
        uniform = self._stream.uniform(ids)
        weights = sources.weights(uniform, sources.sparsity(ids))
        scale = 1 / sources.peak(weights)
        eigenvalue = diffusion.between(self._eigenvalue, uniform[:, sources.WORDS])
        theta = 2 * np.pi * uniform[:, sources.WORDS + 1]
        return {
            "weights": weights,
            "scale": scale,
            "mean": scale * sources.mean(weights),
            "eigenvalue": eigenvalue,
            "theta": theta,
            **diffusion.tensor(eigenvalue, theta),
        }
