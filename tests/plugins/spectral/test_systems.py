"""Each solver agrees with closed forms and with its own residual."""

from __future__ import annotations

import math

import pytest
import torch
from pdefm_spectral import chunks
from pdefm_spectral.advection_diffusion import AdvectionDiffusion
from pdefm_spectral.helmholtz import Helmholtz
from pdefm_spectral.poisson import Poisson

from pdebench_fm.errors import UsageError
from pdebench_fm.problem import Grid

from .helpers import CASES, Case, examples, relative

K = {"k11": 0.031, "k22": 0.017, "k12": -0.008}
V = {"v1": 0.4, "v2": -0.3}
SYSTEMS = [(Poisson, K), (AdvectionDiffusion, {**K, **V}), (Helmholtz, {**K, "omega": 3.7})]
SIZES = [15, 16, 64]


def batch(values: dict[str, float], count: int = 1, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    return {name: torch.full((count,), value, dtype=dtype) for name, value in values.items()}


def phase(grid: Grid, mx: int, my: int) -> torch.Tensor:
    x = torch.arange(grid.size, dtype=torch.float64) / grid.size
    return 2 * math.pi * (mx * x[None, None, :] + my * x[None, :, None])


def modes_of(n: int) -> list[tuple[int, int]]:
    below_nyquist = (n - 1) // 2
    return [(1, 0), (0, 2), (3, -5), (-2, -3), (below_nyquist, 1), (below_nyquist, -below_nyquist)]


@pytest.mark.parametrize(("system", "constants"), SYSTEMS, ids=["poisson", "advection-diffusion", "helmholtz"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [1.0, 2.5])
def test_a_single_mode_is_solved_in_closed_form(system, constants, size, length):
    grid = Grid(size, length)
    for mx, my in modes_of(size):
        kx, ky = 2 * math.pi * mx / length, 2 * math.pi * my / length
        cosine = constants["k11"] * kx**2 + constants["k22"] * ky**2 + 2 * constants["k12"] * kx * ky
        cosine -= constants.get("omega", 0.0)
        sine = constants.get("v1", 0.0) * kx + constants.get("v2", 0.0) * ky
        angle = phase(grid, mx, my)
        # L cos(k·x) = (k·Kk − ω) cos(k·x) − (v·k) sin(k·x)
        source = cosine * torch.cos(angle) - sine * torch.sin(angle)
        inputs = {"source": source, **batch(constants)}
        solution = system(grid).solve(inputs)["solution"]
        assert relative(solution, torch.cos(angle)) < 1e-11


@pytest.mark.parametrize(("system", "constants"), SYSTEMS, ids=["poisson", "advection-diffusion", "helmholtz"])
def test_the_nyquist_mode_has_second_derivatives_alone(system, constants):
    grid = Grid(16)
    for mx, my in [(8, 0), (0, 8), (8, 8), (8, 3)]:
        angle = phase(grid, mx, my)
        kx, ky = 2 * math.pi * mx, 2 * math.pi * my
        even = constants["k11"] * kx**2 + constants["k22"] * ky**2 - constants.get("omega", 0.0)
        first_y = 0.0 if my == 8 else ky
        # sin(8·2πx) vanishes on the grid: along x only −∂²/∂x² is left; along y all but the cross-derivative.
        source = even * torch.cos(angle) - constants.get("v2", 0.0) * first_y * torch.sin(angle)
        solution = system(grid).solve({"source": source, **batch(constants)})["solution"]
        assert relative(solution, torch.cos(angle)) < 1e-12


@pytest.mark.parametrize(("system", "constants"), SYSTEMS, ids=["poisson", "advection-diffusion", "helmholtz"])
@pytest.mark.parametrize("size", [*SIZES, 2, 3])
def test_solve_inverts_the_residual_on_white_noise(system, constants, size):
    generator = torch.Generator().manual_seed(1)
    source = torch.randn(5, size, size, dtype=torch.float64, generator=generator)
    inputs = {"source": source, **batch(constants, 5)}
    solver = system(Grid(size))
    solution = solver.solve(inputs)
    assert solver.residual(inputs, solution).abs().max() < 1e-11 * source.abs().max()
    assert (
        solver.residual(inputs, {"solution": solution["solution"] + torch.cos(phase(Grid(size), 1, 0))}).abs().max()
        > 0.1
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("size", [64, 75, 128])
def test_sampled_examples_satisfy_their_equation(case: Case, size: int):
    _, inputs, solution = examples(case, 24, size)
    residual = case.system(Grid(size)).residual(inputs, {"solution": solution})
    assert residual.abs().max() < 1e-10 * inputs["source"].abs().max()


def test_the_mean_of_a_poisson_source_is_ignored_and_the_solution_has_none():
    for system, constants in SYSTEMS[:2]:
        source = torch.randn(3, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        plain = system(Grid(20)).solve({"source": source, **batch(constants, 3)})["solution"]
        raised = system(Grid(20)).solve({"source": source + 7.0, **batch(constants, 3)})["solution"]
        assert plain.mean(dim=(1, 2)).abs().max() < 1e-14
        assert relative(raised, plain) < 1e-12


def test_the_mean_of_a_helmholtz_solution_is_minus_the_sources_over_omega():
    source = torch.rand(3, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    solution = Helmholtz(Grid(20)).solve({"source": source, **batch({**K, "omega": 3.7}, 3)})["solution"]
    torch.testing.assert_close(solution.mean(dim=(1, 2)), -source.mean(dim=(1, 2)) / 3.7)


def test_an_exact_resonance_leaves_the_mode_out():
    inputs = {"source": torch.ones(2, 8, 8, dtype=torch.float64), **batch({**K, "omega": 0.0}, 2)}
    assert Helmholtz(Grid(8)).solve(inputs)["solution"].abs().max() == 0


@pytest.mark.parametrize(("system", "constants"), SYSTEMS, ids=["poisson", "advection-diffusion", "helmholtz"])
def test_scaling_every_input_leaves_the_solution(system, constants):
    source = torch.randn(2, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    once = {"source": source, **batch(constants, 2)}
    tenfold = {name: 10 * value for name, value in once.items()}
    solver = system(Grid(12))
    assert solver.problem.homogeneous
    assert relative(solver.solve(tenfold)["solution"], solver.solve(once)["solution"]) < 1e-12


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_agrees_with_float64(case: Case):
    _, _, single = examples(case, 64, 128, torch.float32)
    _, _, double = examples(case, 64, 128, torch.float64)
    assert single.dtype == torch.float32
    assert relative(single, double) < 2e-5


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_batch_larger_than_a_chunk_gives_what_its_examples_give_alone(case: Case):
    size = 96
    count = chunks.POINTS // size**2 + 5
    _, inputs, solution = examples(case, count, size, torch.float32)
    solver = case.system(Grid(size))
    for row in (0, 17, count - 1):
        alone = solver.solve({name: value[row : row + 1] for name, value in inputs.items()})["solution"]
        torch.testing.assert_close(alone[0], solution[row], rtol=1e-5, atol=1e-6 * float(solution[row].abs().max()))


def test_inputs_are_left_as_they_were():
    for system, constants in SYSTEMS:
        inputs = {"source": torch.randn(2, 8, 8), **batch(constants, 2, torch.float32)}
        before = {name: value.clone() for name, value in inputs.items()}
        solver = system(Grid(8))
        solver.residual(inputs, solver.solve(inputs))
        for name, value in inputs.items():
            assert torch.equal(value, before[name])


def test_the_residual_can_be_differentiated():
    for system, constants in SYSTEMS:
        inputs = {"source": torch.randn(2, 6, 6, dtype=torch.float64), **batch(constants, 2)}
        solver = system(Grid(6))
        guess = torch.randn(2, 6, 6, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda u, s=solver, i=inputs: s.residual(i, {"solution": u}), guess)


def test_an_empty_batch_is_solved():
    for system, constants in SYSTEMS:
        inputs = {"source": torch.zeros(0, 8, 8), **batch(constants, 0, torch.float32)}
        assert system(Grid(8)).solve(inputs)["solution"].shape == (0, 8, 8)


def test_a_grid_that_is_not_periodic_is_refused():
    for system, _ in SYSTEMS:
        with pytest.raises(UsageError, match="periodic"):
            system(Grid(8, periodic=False))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and pytest -m gpu")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_gpu_gives_what_the_cpu_gives(case: Case):
    _, _, reference = examples(case, 8)
    sampler, grid = case.sample(), Grid(128)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 2e-5)):
        inputs = sampler.realise(sampler.draw(range(8)), grid, "cuda", dtype)
        solution = case.system(grid).solve(inputs)["solution"]
        assert relative(solution.cpu(), reference) < tolerance
