"""SYS-1, Poisson's equation with an anisotropic constant diffusion tensor (paper, section 3, equation 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pdebench_fm.interfaces.pde_system import PDESystem, named_columns
from pdebench_fm.interfaces.sampler import Parameters, Sampler, Split
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.streams import Stream
from pdefm_spectral import diffusion, settings, sources, versions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

CONSTANTS = ("k11", "k22", "k12")


class Poisson(PDESystem):
    """−div(K∇u) = f, periodic, with u of zero mean.

    Inputs: ``source`` f, and K = [[k11, k12], [k12, k22]], constant and positive definite (length² per time where f is
    per time). Output: ``solution`` u. The mean of f is ignored: the equation has no solution unless it is zero.

    Exact up to rounding for the trigonometric interpolant of f; the Nyquist convention is that of
    `pdefm_spectral.wavenumbers`. Multiplying f and K by one number leaves u as it is.

    Args:
        grid: periodic, any size, odd or even.
    """

    def __init__(self, grid: Grid) -> None:
        # Here, so that the sampler below can be had without torch.
        from pdefm_spectral.constant_coefficients import ConstantCoefficientOperator

        constants = tuple(Channel(name, "constant") for name in CONSTANTS)
        self._problem = Problem((Channel("source"), *constants), (Channel("solution"),), grid, homogeneous=True)
        self._operator = ConstantCoefficientOperator(grid, CONSTANTS)

    @property
    def problem(self) -> Problem:
        """Source and K in, solution out."""
        return self._problem

    def solve(self, inputs: Fields) -> Fields:
        """Return the zero-mean solution, (batch, n, n)."""
        return {"solution": self._operator.solve(inputs["source"], [inputs[name] for name in CONSTANTS])}

    def residual(self, inputs: Fields, outputs: Fields) -> Tensor:
        """Return −div(K∇u) − (f − mean f), (batch, n, n)."""
        source = inputs["source"]
        left = self._operator.apply(outputs["solution"], [inputs[name] for name in CONSTANTS])
        return left - (source - source.mean(dim=(-2, -1), keepdim=True))

    def read_columns(self, columns: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return K: the columns of the authors' files, in the order of `CONSTANTS` and on our axes."""
        return named_columns(columns, CONSTANTS)


class PoissonSampler(Sampler):
    """Gaussian sources of zero mean, and K with eigenvalues 0.01 and 0.01 e, rotated by θ ~ U(0, 2π): SYS-1(e₁, e₂).

    Args:
        eigenvalue: (e₁, e₂), 0 < e₁ ≤ e₂; e ~ U(e₁, e₂), the anisotropy of K.
        data_seed: names the data set.
        split: names the part of it.

    Raises:
        SettingError: a setting is out of its range.
    """

    def __init__(self, eigenvalue: tuple[float, float], *, data_seed: int, split: Split) -> None:
        self._eigenvalue = settings.positive_range("eigenvalue", eigenvalue)
        data_seed, _ = settings.seed_and_split(data_seed, split)
        description = {
            "sampler": "poisson",
            "version": versions.POISSON,
            "settings": {"eigenvalue": list(self._eigenvalue)},
            "data_seed": data_seed,
            "split": split,
        }
        self._stream = Stream(description, sources.WORDS + 2)

    @property
    def physics(self) -> str:
        """The anisotropy e."""
        return "eigenvalue"

    @property
    def period(self) -> int:
        """Four sparsities take turns."""
        return len(sources.SPARSITIES)

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

    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        """Make the zero-mean source and K on a grid."""
        return sources.realise(parameters, CONSTANTS, grid, device, dtype)

    def solve(self, system: PDESystem, parameters: Parameters, inputs: Fields) -> Fields:
        """Solve drawn examples; `Poisson` at less cost, from the Fourier series of their sources."""
        from pdefm_spectral import series_solution

        return series_solution.solve(system, Poisson, parameters, CONSTANTS, inputs)
