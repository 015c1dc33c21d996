"""What the three systems share: constant coefficients and Gaussian sources. Each equation has its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import Parameters, Sampler, Split
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdefm_spectral import settings, sources

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ConstantCoefficientSystem(PDESystem):
    """L u = f, periodic, L = −div(K∇·) + v·∇ − ω with constant coefficients, of which a system has some.

    Exact up to rounding for the trigonometric interpolant of f; the Nyquist convention is that of
    `pdefm_spectral.wavenumbers`. Multiplying f and all coefficients by one number does not change u.

    Without ω the mean of f is ignored, since the equation has no solution unless it is zero, and u has zero mean.

    Args:
        grid: periodic, any size, odd or even.
    """

    constants: ClassVar[tuple[str, ...]]
    """The coefficients: channels of one number per example."""

    def __init__(self, grid: Grid) -> None:
        # Imported here: samplers do not need torch.
        from pdefm_spectral.constant_coefficients import ConstantCoefficientOperator

        constants = tuple(Channel(name, "constant") for name in self.constants)
        self._problem = Problem((Channel("source"), *constants), (Channel("solution"),), grid, homogeneous=True)
        self._operator = ConstantCoefficientOperator(grid, self.constants)

    @property
    def problem(self) -> Problem:
        """Source and coefficients in, solution out."""
        return self._problem

    def solve(self, inputs: Fields) -> Fields:
        """Return the solution, (batch, n, n)."""
        return {"solution": self._operator.solve(inputs["source"], self._coefficients(inputs))}

    def residual(self, inputs: Fields, outputs: Fields) -> Tensor:
        """Return L u − f, without ω L u − (f − mean f), (batch, n, n)."""
        source = inputs["source"]
        if "omega" not in self.constants:
            source = source - source.mean(dim=(-2, -1), keepdim=True)
        return self._operator.apply(outputs["solution"], self._coefficients(inputs)) - source

    def _coefficients(self, inputs: Fields) -> list[Tensor]:
        return [inputs[name] for name in self.constants]


class GaussianSourceSampler(Sampler):
    """Gaussian sources of four sparsities in turn, and coefficients that a system's own sampler draws."""

    system: ClassVar[type[ConstantCoefficientSystem]]
    """Whose examples it draws."""

    @property
    def period(self) -> int:
        """Four sparsities take turns."""
        return len(sources.SPARSITIES)

    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        """Make the source and the coefficients on a grid."""
        return sources.realise(parameters, self.system.constants, grid, device, dtype)

    def solve(self, system: PDESystem, parameters: Parameters, inputs: Fields) -> Fields:
        """Solve drawn examples; those of its own system at less cost, from the Fourier series of their sources."""
        from pdefm_spectral import series_solution

        return series_solution.solve(system, self.system, parameters, self.system.constants, inputs)


def stream_name(sampler: str, version: str, chosen: Mapping[str, Any], data_seed: int, split: Split) -> dict[str, Any]:
    """Return what names a sampler's random stream: all that may change an example.

    Raises:
        SettingError: ``data_seed`` or ``split`` cannot name a stream.
    """
    seed, part = settings.seed_and_split(data_seed, split)
    return {"sampler": sampler, "version": version, "settings": dict(chosen), "data_seed": seed, "split": part}
