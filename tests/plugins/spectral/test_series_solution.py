"""Solutions from the Fourier series of the sources are those of the solver by FFT, and as close to float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pdefm_spectral import series_solution
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler, largest
from pdefm_spectral.poisson import Poisson, PoissonSampler
from torch import Tensor

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import Parameters, Sampler
from pdebench_fm.problem import Fields, Grid

from .helpers import CALIBRATED, CASES, EXACT, HELMHOLTZ, POISSON, Case, relative

# Largest relative 2-norm error of a float32 solution against float64. Measured over 128 examples: 3.3e-7.
ROUNDING = 6e-7


class ByFFT:
    """Stands in for a system's solver, so that a test sees whether it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[PDESystem]) -> None:
        self.calls = 0
        plain = kind.solve

        def solve(system: PDESystem, inputs: Fields) -> Fields:
            self.calls += 1
            return plain(system, inputs)

        monkeypatch.setattr(kind, "solve", solve)


def both(case: Case, size: int, ids: range, **settings: object) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sampler's float32 solutions, the system's, and those of the system in float64."""
    sampler, grid = case.sample(**settings), Grid(size)
    parameters, system = sampler.draw(ids), case.system(grid)
    inputs = sampler.realise(parameters, grid, "cpu", torch.float32)
    exact = system.solve(sampler.realise(parameters, grid, "cpu", torch.float64))["solution"]
    return sampler.solve(system, parameters, inputs)["solution"], system.solve(inputs)["solution"], exact


@pytest.mark.parametrize("size", [80, 81, 96, 97, 128])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_solutions_agree_with_float64_to_rounding(case: Case, size: int):
    series, _, exact = both(case, size, range(200, 264), data_seed=3)
    assert series.dtype == torch.float32
    assert relative(series, exact) < ROUNDING


def test_strong_anisotropy_and_strong_advection_are_no_harder():
    assert relative(*both(POISSON, 128, range(64), eigenvalue=(10.0, 20.0))[::2]) < ROUNDING
    assert relative(*both(CALIBRATED, 128, range(64), ratio=(20.0, 150.0))[::2]) < ROUNDING


@pytest.mark.parametrize("wavenumber", [(2, 2), (4, 4), (90, 100)])
def test_near_a_resonance_it_is_closer_to_float64_than_the_fft(wavenumber: tuple[int, int]):
    # ω = 2 is 0.026 from a resonance, where float32 fields lose two digits and a symbol settled in float64 none.
    series, fft, exact = both(HELMHOLTZ, 128, range(8), wavenumber=wavenumber, amplitude_cap=5.0)
    assert relative(series, exact) < min(ROUNDING, relative(fft, exact))


def test_the_modes_left_out_do_not_show_at_64_either(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(series_solution, "SMALLEST_GRID", 64)
    for case in CASES:
        series, fft, exact = both(case, 64, range(64))
        assert not torch.equal(series, fft)
        assert relative(series, exact) < ROUNDING


def test_poisson_solutions_have_no_mean_and_helmholtz_solutions_have_the_sources_over_minus_omega():
    for case in (POISSON, CALIBRATED, EXACT):
        series, _, _ = both(case, 96, range(16))
        assert series.double().mean(dim=(1, 2)).abs().max() < 1e-7 * series.abs().max()
    sampler = HELMHOLTZ.sample()
    parameters, grid = sampler.draw(range(16)), Grid(96)
    inputs = sampler.realise(parameters, grid, "cpu", torch.float32)
    solution = sampler.solve(Helmholtz(grid), parameters, inputs)["solution"]
    expected = -inputs["source"].double().mean(dim=(1, 2)) / inputs["omega"]
    torch.testing.assert_close(solution.double().mean(dim=(1, 2)), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_example_is_the_same_whatever_its_batch(case: Case):
    sampler, grid = case.sample(), Grid(96)
    system = case.system(grid)

    def solution(ids: range) -> Tensor:
        parameters = sampler.draw(ids)
        inputs = sampler.realise(parameters, grid, "cpu", torch.float32)
        return sampler.solve(system, parameters, inputs)["solution"]

    whole = solution(range(70))  # more than two chunks
    pieces = torch.cat([solution(range(1)), solution(range(1, 6)), solution(range(6, 70))])
    # To the last bit with the libraries of today; other matrix products may sum in another order.
    assert relative(pieces, whole.double()) < 1e-7


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_is_used_where_it_is_faster(case: Case, monkeypatch: pytest.MonkeyPatch):
    sampler, grid = case.sample(), Grid(128)
    parameters, system = sampler.draw(range(2)), case.system(grid)
    inputs = sampler.realise(parameters, grid, "cpu", torch.float32)
    asked = ByFFT(monkeypatch, type(system))
    sampler.solve(system, parameters, inputs)
    assert asked.calls == 0


@pytest.mark.parametrize(("size", "dtype"), [(32, torch.float32), (64, torch.float32), (128, torch.float64)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_on_small_grids_and_in_float64_the_system_solves(case: Case, size: int, dtype: torch.dtype):
    sampler, grid = case.sample(), Grid(size)
    parameters, system = sampler.draw(range(20)), case.system(grid)
    inputs = sampler.realise(parameters, grid, "cpu", dtype)
    assert torch.equal(sampler.solve(system, parameters, inputs)["solution"], system.solve(inputs)["solution"])


def test_a_large_omega_is_left_to_the_system(monkeypatch: pytest.MonkeyPatch):
    asked = ByFFT(monkeypatch, Helmholtz)
    for omega, calls in ((100, 0), (101, 1)):
        sampler = HelmholtzSampler((omega, omega), data_seed=0, split="train")
        solve_with(sampler, Helmholtz(Grid(96)), sampler.draw(range(2)))
        assert asked.calls == calls


def test_another_system_solves_for_itself():
    class Doubled(Poisson):
        def solve(self, inputs: Fields) -> Fields:
            return {"solution": 2 * inputs["source"]}

    sampler = PoissonSampler((1, 5), data_seed=0, split="train")
    parameters, grid = sampler.draw(range(2)), Grid(96)
    inputs = sampler.realise(parameters, grid, "cpu", torch.float32)
    assert torch.equal(sampler.solve(Doubled(grid), parameters, inputs)["solution"], 2 * inputs["source"])


def test_an_empty_batch_is_solved():
    for case in CASES:
        sampler, grid = case.sample(), Grid(96)
        parameters = {name: values[:0] for name, values in sampler.draw(range(2)).items()}
        assert solve_with(sampler, case.system(grid), parameters).shape == (0, 96, 96)


def test_the_amplitudes_are_those_that_the_cap_was_settled_with():
    sampler = HelmholtzSampler((1, 10), data_seed=0, split="train")
    parameters = sampler.draw(range(16))
    peaks = solve_with(sampler, Helmholtz(Grid(128)), parameters).abs().amax(dim=(1, 2)).numpy()
    rows = zip(parameters["weights"], parameters["scale"], parameters["omega"], strict=True)
    np.testing.assert_allclose(peaks, [largest(*row) for row in rows], rtol=2e-6)


def solve_with(sampler: Sampler, system: PDESystem, parameters: Parameters) -> Tensor:
    inputs = sampler.realise(parameters, system.problem.grid, "cpu", torch.float32)
    return sampler.solve(system, parameters, inputs)["solution"]
