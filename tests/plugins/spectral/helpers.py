"""What the tests of the spectral plugin share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pdefm_spectral.advection_diffusion import AdvectionDiffusion, AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler
from pdefm_spectral.poisson import Poisson, PoissonSampler

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import Sampler, Split
from pdebench_fm.problem import Fields, Grid


@dataclass(frozen=True)
class Case:
    """A system with a distribution of its examples."""

    name: str
    system: Callable[[Grid], PDESystem]
    sampler: Callable[..., Sampler]
    settings: dict[str, object]

    def sample(self, data_seed: int = 0, split: Split = "train", **changed: object) -> Sampler:
        return self.sampler(**{**self.settings, **changed}, data_seed=data_seed, split=split)

    def __str__(self) -> str:
        return self.name


POISSON = Case("poisson", Poisson, PoissonSampler, {"eigenvalue": (1.0, 5.0)})
CALIBRATED = Case("advection-diffusion", AdvectionDiffusion, AdvectionDiffusionSampler, {"ratio": (0.2, 1.0)})
EXACT = Case("exact", AdvectionDiffusion, AdvectionDiffusionSampler, {"ratio": (2.0, 5.0), "mode": "exact"})
HELMHOLTZ = Case("helmholtz", Helmholtz, HelmholtzSampler, {"wavenumber": (1, 10)})
CASES = [POISSON, CALIBRATED, EXACT, HELMHOLTZ]


def examples(
    case: Case, count: int, size: int = 128, dtype: torch.dtype = torch.float64
) -> tuple[dict[str, np.ndarray], Fields, torch.Tensor]:
    """Draw, realise and solve the first ``count`` examples: parameters, inputs, solutions."""
    sampler, grid = case.sample(), Grid(size)
    parameters = dict(sampler.draw(range(count)))
    inputs = sampler.realise(parameters, grid, "cpu", dtype)
    return parameters, inputs, case.system(grid).solve(inputs)["solution"]


def relative(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the largest relative 2-norm error over a batch of fields."""
    error = torch.linalg.vector_norm(value.double() - reference, dim=(1, 2))
    return float((error / torch.linalg.vector_norm(reference, dim=(1, 2))).max())


def distance_from_uniform(values: np.ndarray, low: float, high: float) -> float:
    """Return √N times the Kolmogorov-Smirnov distance from U(low, high): below 1.95 in 99.9% of samples."""
    ranks = np.sort((values - low) / (high - low))
    steps = np.arange(len(values) + 1) / len(values)
    return float(max((ranks - steps[:-1]).max(), (steps[1:] - ranks).max()) * np.sqrt(len(values)))
