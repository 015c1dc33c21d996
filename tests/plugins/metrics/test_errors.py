from __future__ import annotations

import math

import pytest
import torch
from pdefm_metrics.errors import RelativeH1

from pdebench_fm.problem import Channel, Grid, Problem


def relative_h1(grid: Grid, truth: torch.Tensor, error: torch.Tensor) -> float:
    problem = Problem((Channel("source"),), (Channel("solution"),), grid)
    prediction, target = {"solution": (truth + error)[None]}, {"solution": truth[None]}
    return float(RelativeH1().per_sample(problem, {}, prediction, target, None))


@pytest.mark.parametrize("length", [1.0, 3.0])
@pytest.mark.parametrize("size", [8, 9, 64])
def test_without_periodicity_a_linear_field_has_its_exact_slope(size: int, length: float) -> None:
    """The points lie at i/n of the length, so that the slope of x is 1 at any size."""
    grid = Grid(size, length, periodic=False)
    x = (length * torch.arange(size, dtype=torch.float64) / size).expand(size, size)
    one = torch.ones_like(x)
    squares = float((x**2).mean())  # ∫ (x + c)², with |∇|² = 1, against that of 1, without slope
    assert relative_h1(grid, one, x) == pytest.approx(math.sqrt(squares + 1))


def test_on_a_periodic_grid_derivatives_are_spectral() -> None:
    x = (2.0 * torch.arange(16, dtype=torch.float64) / 16).expand(16, 16)
    wave = torch.cos(2 * math.pi * x / 2.0 * 3)
    expected = math.sqrt(0.5 * (1 + (3 * math.pi) ** 2))
    assert relative_h1(Grid(16, 2.0), torch.ones_like(x), wave) == pytest.approx(expected)
