"""Numerical solvers against exact solutions: their order of accuracy, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from pdefm_solvers.coarse import interpolate
from pdefm_solvers.spectral import Spectral
from pdefm_spectral.advection_diffusion import AdvectionDiffusion
from pdefm_spectral.common import ConstantCoefficientSystem
from pdefm_spectral.helmholtz import Helmholtz
from pdefm_spectral.poisson import Poisson

from pdebench_fm.errors import UnsupportedError
from pdebench_fm.problem import Fields, Grid

COEFFICIENTS = {"k11": 0.01, "k22": 0.03, "k12": 0.008, "v1": 0.2, "v2": -0.1, "omega": 5.0}
SYSTEMS = [Poisson, AdvectionDiffusion, Helmholtz]


def smooth(system: ConstantCoefficientSystem) -> dict[str, torch.Tensor]:
    """A source of wavenumbers up to 3, with a mean, and two sets of coefficients."""
    n = system.problem.grid.size
    x = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    source = torch.sin(x[None] + 2 * x[:, None]) + 0.5 * torch.cos(3 * x[None] - x[:, None]) + 0.2
    factors = torch.tensor([1.0, 1.7], dtype=torch.float64)
    return {"source": source.expand(2, n, n)} | {c: COEFFICIENTS[c] * factors for c in system.constants}


def error(found: Fields, exact: Fields) -> float:
    difference = found["solution"] - exact["solution"]
    return float((difference.norm(dim=(1, 2)) / exact["solution"].norm(dim=(1, 2))).max())


@pytest.mark.parametrize("kind", SYSTEMS)
def test_the_spectral_solver_is_exact_on_every_grid_that_resolves_the_source(
    kind: type[ConstantCoefficientSystem],
) -> None:
    system = kind(Grid(32))
    inputs = smooth(system)
    for coarsen in (1, 2, 4):
        assert error(Spectral(system, coarsen)(inputs), system.solve(inputs)) < 1e-12
    assert error(Spectral(system, 8)(inputs), system.solve(inputs)) > 0.05  # 4 points for a wavenumber of 3


@pytest.mark.parametrize("kind", SYSTEMS)
def test_finite_differences_are_of_second_order(kind: type[ConstantCoefficientSystem]) -> None:
    pytest.importorskip("scipy", reason="needs SciPy: pip install -e '.[solvers]'")
    from pdefm_solvers.finite_differences import FiniteDifferences

    found = {}
    for n in (16, 32, 64):
        system = kind(Grid(n))
        inputs = smooth(system)
        found[n] = error(FiniteDifferences(system)(inputs), system.solve(inputs))
    assert found[64] < 0.02
    assert found[32] / found[64] == pytest.approx(4, rel=0.15)
    coarse = error(FiniteDifferences(system, 2)(inputs), system.solve(inputs))
    assert coarse == pytest.approx(found[32], rel=1e-6)


@pytest.mark.parametrize(("n", "size"), [(4, 8), (5, 12), (8, 8), (8, 24), (7, 14)])
def test_an_interpolant_has_the_values_that_it_was_made_from(n: int, size: int) -> None:
    field = torch.randn(3, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = size // n if size % n == 0 else 0
    fine = interpolate(field, size)
    assert fine.shape == (3, size, size)
    torch.testing.assert_close(fine.mean(dim=(1, 2)), field.mean(dim=(1, 2)))
    if step:
        torch.testing.assert_close(fine[:, ::step, ::step], field)


def test_what_cannot_be_solved_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"a grid of 32 points has none .* 3 times coarser"):
        Spectral(Poisson(Grid(32)), 3)
    with pytest.raises(UnsupportedError, match="not object"):
        Spectral(_Other(), 1)


class _Other:
    problem = Poisson(Grid(8)).problem


_Other.__name__ = "object"
