"""Coefficients are distributed as the paper says, and belong to their example alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from pdefm_spectral import calibration, helmholtz, sources
from pdefm_spectral.advection_diffusion import AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import HelmholtzSampler
from pdefm_spectral.poisson import PoissonSampler

from pdebench_fm.errors import RunError, SettingError
from pdebench_fm.interfaces.sampler import SPLITS
from pdebench_fm.problem import Grid
from pdebench_fm.registry.arguments import bind

from .helpers import CALIBRATED, CASES, EXACT, HELMHOLTZ, POISSON, Case, distance_from_uniform, examples


def fourier_ratio(parameters: dict[str, np.ndarray], solution: torch.Tensor) -> np.ndarray:
    """Ψ of solutions by definition: norms over every mode of the grid."""
    n = solution.shape[-1]
    spectrum = torch.fft.fft2(solution)
    k = 2 * np.pi * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    kx, ky = k[None, None, :], k[None, :, None]
    c = {name: torch.as_tensor(parameters[name])[:, None, None] for name in ("k11", "k22", "k12", "v1", "v2")}
    advection = (c["v1"] * kx + c["v2"] * ky) * spectrum
    diffusion = (c["k11"] * kx**2 + c["k22"] * ky**2 + 2 * c["k12"] * kx * ky) * spectrum
    return (torch.linalg.vector_norm(advection, dim=(1, 2)) / torch.linalg.vector_norm(diffusion, dim=(1, 2))).numpy()


@pytest.mark.parametrize("case", [POISSON, CALIBRATED, EXACT], ids=str)
def test_the_eigenvalues_of_k_are_a_hundredth_of_one_and_e(case: Case):
    drawn = case.sample().draw(range(200))
    k = np.stack([drawn["k11"], drawn["k12"], drawn["k12"], drawn["k22"]], axis=1).reshape(-1, 2, 2)
    smaller, larger = np.linalg.eigvalsh(k).T
    np.testing.assert_allclose(smaller, 0.01, rtol=1e-12)
    np.testing.assert_allclose(larger, 0.01 * drawn["eigenvalue"], rtol=1e-12)


def test_eigenvalue_and_rotation_are_uniform():
    drawn = POISSON.sample(eigenvalue=(5.0, 10.0)).draw(range(2000))
    assert drawn["eigenvalue"].min() >= 5
    assert drawn["eigenvalue"].max() <= 10
    assert distance_from_uniform(drawn["eigenvalue"], 5, 10) < 1.95
    assert distance_from_uniform(drawn["theta"], 0, 2 * np.pi) < 1.95


def test_calibrated_velocities_have_uniform_directions_and_targets():
    drawn = CALIBRATED.sample().draw(range(2000))
    assert distance_from_uniform(drawn["target_ratio"], 0.2, 1.0) < 1.95
    assert distance_from_uniform(drawn["phi"], 0, 2 * np.pi) < 1.95
    np.testing.assert_allclose(np.hypot(drawn["v1"], drawn["v2"]), calibration.speed(drawn["target_ratio"]))
    assert distance_from_uniform(drawn["eigenvalue"], 1, 5) < 1.95


@pytest.mark.parametrize("case", [CALIBRATED, EXACT], ids=str)
def test_the_reported_ratio_is_that_of_the_solution(case: Case):
    parameters, _, solution = examples(case, 64, 128)
    np.testing.assert_allclose(fourier_ratio(parameters, solution), parameters["ratio"], rtol=1e-11)


@pytest.mark.parametrize("ratio", [(0.2, 1.0), (2.0, 5.0), (0.7, 0.7)])
def test_exact_mode_realises_every_target(ratio: tuple[float, float]):
    drawn = EXACT.sample(ratio=ratio).draw(range(256))
    np.testing.assert_allclose(drawn["ratio"], drawn["target_ratio"], rtol=1e-12)
    assert drawn["speed"].max() <= 20
    assert drawn["target_ratio"].min() >= ratio[0]
    assert drawn["target_ratio"].max() <= ratio[1]


def test_the_calibration_gives_the_population_its_mean_ratio():
    for target in (0.1, 0.6, 3.0):
        drawn = CALIBRATED.sample(ratio=(target, target)).draw(range(4000))
        assert drawn["ratio"].mean() == pytest.approx(target, rel=0.03)


def test_the_calibration_table_is_what_its_script_measures():
    np.testing.assert_allclose(calibration.measure(2048), calibration.RATIOS, rtol=0.03)
    assert (np.diff(calibration.RATIOS) > 0).all()


@pytest.mark.parametrize(
    ("ratio", "outside"), [((0.2, 1.0), 0.14), ((1.0, 2.0), 0.24), ((0.2, 0.4), 0.38), ((2.0, 5.0), 0.26)]
)
def test_calibrated_ratios_leave_their_range_as_often_as_the_papers(ratio: tuple[float, float], outside: float):
    realised = CALIBRATED.sample(ratio=ratio).draw(range(3000))["ratio"]
    assert np.mean((realised < ratio[0]) | (realised > ratio[1])) == pytest.approx(outside, abs=0.05)


def test_next_to_no_wavenumber_is_two_and_few_are_four():
    omega = HELMHOLTZ.sample().draw(range(4000))["wavenumber"]
    assert set(np.unique(omega)) <= set(range(1, 11))
    share = {value: float(np.mean(omega == value)) for value in range(1, 11)}
    assert share[2] < 0.005
    assert 0.02 < share[4] < 0.08
    for value in (1, 3, 5, 6, 7, 8, 9, 10):
        assert share[value] == pytest.approx(0.119, abs=0.02)


def test_both_ends_of_the_wavenumber_range_are_drawn_and_k_is_a_hundredth():
    drawn = HELMHOLTZ.sample(wavenumber=(11, 15)).draw(range(500))
    assert set(np.unique(drawn["wavenumber"])) == {11, 12, 13, 14, 15}
    np.testing.assert_array_equal(drawn["omega"], drawn["wavenumber"])
    assert set(drawn["k11"]) == set(drawn["k22"]) == {0.01}
    assert not drawn["k12"].any()


def test_no_helmholtz_solution_exceeds_the_cap():
    _, _, solution = examples(HELMHOLTZ, 400)
    assert solution.abs().max() <= 2.0
    assert solution.abs().max() > 1.8


@pytest.mark.parametrize("wavenumber", [(1, 10), (95, 130)])
def test_the_cheap_bounds_decide_as_the_solution_does(wavenumber: tuple[int, int]):
    sampler = HELMHOLTZ.sample(wavenumber=wavenumber)
    weights, scale, omega = sampler._attempt(np.arange(200), 0)
    largest = np.array([helmholtz.largest(*row) for row in zip(weights, scale, omega, strict=True)])
    for cap in (0.3, 2.0, float(np.median(largest))):
        np.testing.assert_array_equal(helmholtz.within_cap(weights, scale, omega, cap), largest <= cap)


def test_a_cap_out_of_reach_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(helmholtz, "MOST_ATTEMPTS", 5)
    with pytest.raises(RunError, match=r"amplitude_cap: example 7 .* in 5 draws"):
        HELMHOLTZ.sample(amplitude_cap=1e-6).draw([7])


def test_a_ratio_out_of_reach_is_an_error_that_says_so():
    with pytest.raises(RunError, match=r"ratio: example 3 .* s ≤ 20"):
        EXACT.sample(ratio=(1e4, 1e4)).draw([3])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_example_depends_on_its_index_alone(case: Case):
    sampler = case.sample()
    whole = sampler.draw(range(96))
    for ids in ([0], [95, 3, 40], list(range(50, 20, -1)), [7, 7]):
        some = sampler.draw(ids)
        assert set(some) == set(whole)
        for name, value in some.items():
            np.testing.assert_array_equal(value, whole[name][ids], err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_realised_fields_do_not_depend_on_the_batch(case: Case):
    sampler = case.sample()
    whole = sampler.realise(sampler.draw(range(40)), Grid(48), "cpu", torch.float32)
    alone = sampler.realise(sampler.draw([33]), Grid(48), "cpu", torch.float32)
    for name, value in alone.items():
        torch.testing.assert_close(value[0], whole[name][33], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_splits_seeds_and_settings_give_different_examples(case: Case):
    draws = [case.sample(split=split).draw(range(4))["weights"] for split in SPLITS]
    draws.append(case.sample(data_seed=1).draw(range(4))["weights"])
    other = {"eigenvalue": (5.0, 10.0), "ratio": (0.3, 1.0), "wavenumber": (1, 5)}
    physics = next(iter(case.settings))
    draws.append(case.sample(**{physics: other[physics]}).draw(range(4))["weights"])
    for first in range(len(draws)):
        for second in range(first):
            assert not np.isclose(draws[first], draws[second]).all(axis=1).any()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_settings_given_as_a_suite_gives_them_mean_the_same(case: Case):
    bound = bind(
        case.sampler,
        {name: list(v) if isinstance(v, tuple) else v for name, v in case.settings.items()},
        reserved=("data_seed", "split"),
    )
    again = case.sampler(**bound, data_seed=0, split="train")
    np.testing.assert_array_equal(again.draw(range(4))["weights"], case.sample().draw(range(4))["weights"])
    assert again.physics in again.draw([0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_draws_are_float64_arrays_of_the_batch(case: Case):
    for name, value in case.sample().draw(range(3)).items():
        assert value.dtype == np.float64, name
        assert len(value) == 3, name


@pytest.mark.parametrize(
    ("sampler", "wrong", "setting"),
    [
        (PoissonSampler, {"eigenvalue": (5, 1)}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": (0, 1)}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": (1, float("inf"))}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": (float("nan"), 1)}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": (1, 2, 3)}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": "15"}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": ("1", "5")}, "eigenvalue"),
        (PoissonSampler, {"eigenvalue": (1, 5), "split": "training"}, "split"),
        (PoissonSampler, {"eigenvalue": (1, 5), "data_seed": 1.5}, "data_seed"),
        (AdvectionDiffusionSampler, {"ratio": (1.0, 0.2)}, "ratio"),
        (AdvectionDiffusionSampler, {"ratio": (0.2, 1000.0)}, "ratio"),
        (AdvectionDiffusionSampler, {"ratio": (1e-5, 1.0)}, "ratio"),
        (AdvectionDiffusionSampler, {"ratio": (-1.0, 1.0), "mode": "exact"}, "ratio"),
        (AdvectionDiffusionSampler, {"ratio": (0.2, 1.0), "mode": "approximate"}, "mode"),
        (AdvectionDiffusionSampler, {"ratio": (0.2, 1.0), "eigenvalue": (5, 1)}, "eigenvalue"),
        (HelmholtzSampler, {"wavenumber": (5, 1)}, "wavenumber"),
        (HelmholtzSampler, {"wavenumber": (0, 3)}, "wavenumber"),
        (HelmholtzSampler, {"wavenumber": (1, 2.5)}, "wavenumber"),
        (HelmholtzSampler, {"wavenumber": (1, 5), "amplitude_cap": 0.0}, "amplitude_cap"),
        (HelmholtzSampler, {"wavenumber": (1, 5), "amplitude_cap": float("nan")}, "amplitude_cap"),
    ],
)
def test_wrong_settings_are_refused_by_name(sampler, wrong, setting):
    with pytest.raises(SettingError) as caught:
        sampler(**{"data_seed": 0, "split": "train", **wrong})
    assert caught.value.setting == setting


def test_equal_ends_are_a_range():
    assert set(PoissonSampler((3, 3), data_seed=0, split="train").draw(range(5))["eigenvalue"]) == {3.0}
    assert set(HelmholtzSampler((3, 3), data_seed=0, split="train").draw(range(5))["wavenumber"]) == {3.0}


def test_listing_and_checking_settings_needs_no_torch():
    code = (
        "import sys, pdefm_spectral\n"
        "assert 'numpy' not in sys.modules and 'torch' not in sys.modules, 'the plugin imports numpy or torch'\n"
        "for entry in pdefm_spectral.pdefm_samplers():\n"
        "    settings = {'poisson': {'eigenvalue': (1, 5)}, 'helmholtz': {'wavenumber': (1, 5)}}\n"
        "    settings = settings.get(entry.name, {'ratio': (0.2, 1.0)})\n"
        "    entry.load()(**settings, data_seed=0, split='train').draw([0])\n"
        "assert 'torch' not in sys.modules, 'the samplers import torch'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=None)


def test_every_entry_loads_and_every_system_names_its_sampler():
    import pdefm_spectral

    samplers = {entry.name: entry for entry in pdefm_spectral.pdefm_samplers()}
    for entry in pdefm_spectral.pdefm_systems():
        problem = entry.load()(Grid(8)).problem
        assert problem.input_names[:4] == ("source", "k11", "k22", "k12")
        assert problem.output_names == ("solution",)
        assert samplers[entry.sampler].load()
        assert samplers[entry.sampler].version == entry.version


def test_realised_inputs_are_the_problems_inputs():
    for case in CASES:
        _, inputs, solution = examples(case, 3, 16, torch.float32)
        problem = case.system(Grid(16)).problem
        assert set(inputs) == set(problem.input_names)
        assert all(value.dtype == torch.float32 for value in inputs.values())
        assert inputs["source"].shape == solution.shape == (3, 16, 16)
        assert all(inputs[name].shape == (3,) for name in problem.constants)
    assert sources.REFERENCE == 128
