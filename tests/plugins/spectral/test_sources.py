"""Sources are the paper's sums of Gaussians, the same function on every grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pdefm_spectral import sources

from pdebench_fm.errors import UsageError
from pdebench_fm.problem import Grid
from pdebench_fm.streams import Stream

from .helpers import CASES, HELMHOLTZ, POISSON, Case, distance_from_uniform, examples, relative


def test_a_source_is_the_sum_of_gaussians_over_its_peak():
    parameters, inputs, _ = examples(HELMHOLTZ, 8)
    points = np.arange(128) / 128
    for row in range(8):
        total = np.zeros((128, 128))
        for index, weight in enumerate(parameters["weights"][row]):
            cy, cx = sources.CENTRES[index // 12], sources.CENTRES[index % 12]
            squares = (points[None, :] - cx) ** 2 + (points[:, None] - cy) ** 2
            total += weight * np.exp(-squares / (2 * (1 / 32) ** 2))
        np.testing.assert_allclose(inputs["source"][row].numpy(), total / total.max(), atol=1e-14)


def test_the_centres_cover_eleven_sixteenths_of_the_square_with_spacing_two_sigma():
    assert sources.CENTRES[0] == 0.5 - 11 / 32
    assert sources.CENTRES[-1] == 0.5 + 11 / 32
    np.testing.assert_allclose(np.diff(sources.CENTRES), 1 / 16)


def test_the_peak_found_within_the_hull_is_the_peak_of_the_grid():
    weights = sources.weights(Stream("peak", sources.WORDS).uniform(range(200)), sources.sparsity(range(200)))
    basis = sources.basis(128)
    whole = (basis @ weights.reshape(-1, 12, 12) @ basis.T).max(axis=(1, 2))
    np.testing.assert_allclose(sources.peak(weights), whole, rtol=1e-14)


def test_poisson_sources_have_zero_mean_and_helmholtz_sources_keep_theirs():
    _, inputs, _ = examples(POISSON, 16)
    assert inputs["source"].mean(dim=(1, 2)).abs().max() < 1e-15
    _, inputs, _ = examples(HELMHOLTZ, 16)
    assert inputs["source"].mean(dim=(1, 2)).min() > 1e-3
    torch.testing.assert_close(inputs["source"].amax(dim=(1, 2)), torch.ones(16, dtype=torch.float64))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_example_is_the_same_function_at_64_and_128(case: Case):
    _, coarse_inputs, coarse = examples(case, 32, 64)
    _, fine_inputs, fine = examples(case, 32, 128)
    torch.testing.assert_close(coarse_inputs["source"], fine_inputs["source"][:, ::2, ::2], rtol=0, atol=1e-15)
    # What is left is aliasing, of the Gaussians and of their cut at the edges (4e-6).
    assert relative(coarse, fine[:, ::2, ::2]) < 1e-6


@pytest.mark.parametrize("case", [POISSON, HELMHOLTZ], ids=str)
def test_at_32_the_same_source_is_sampled_and_aliasing_stays_small(case: Case):
    _, coarse_inputs, coarse = examples(case, 32, 32)
    _, fine_inputs, fine = examples(case, 32, 128)
    torch.testing.assert_close(coarse_inputs["source"], fine_inputs["source"][:, ::4, ::4], rtol=0, atol=1e-15)
    assert relative(coarse, fine[:, ::4, ::4]) < 1e-3


def test_sparsities_take_turns():
    assert sources.sparsity([0, 1, 2, 3, 4, 7]).tolist() == [0.2, 0.4, 0.6, 0.8, 0.2, 0.8]
    for case in CASES:
        assert case.sample().period == 4
        zeros = (case.sample().draw(range(800))["weights"] == 0).mean(axis=1)
        for stratum, expected in enumerate(sources.SPARSITIES):
            assert zeros[stratum::4].mean() == pytest.approx(expected, abs=0.012)


def test_nonzero_weights_are_uniform():
    weights = POISSON.sample().draw(range(400))["weights"]
    drawn = weights[weights > 0]
    assert drawn.min() >= 0.001
    assert drawn.max() < 1
    assert distance_from_uniform(drawn, 0.001, 1.0) < 1.95


def test_a_draw_of_zeros_gets_one_gaussian():
    uniform = Stream("all zero", sources.WORDS).uniform(range(300))
    weights = sources.weights(uniform, np.ones(300))
    assert ((weights > 0).sum(axis=1) == 1).all()
    assert weights.max() < 1
    assert weights[weights > 0].min() >= 0.001
    assert len(np.unique(weights.argmax(axis=1))) > 100


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_data_set_of_lone_gaussians_can_be_drawn_and_solved(case: Case, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sources, "SPARSITIES", (1.0,))
    parameters, inputs, solution = examples(case, 8, 64)
    assert ((parameters["weights"] > 0).sum(axis=1) == 1).all()
    residual = case.system(Grid(64)).residual(inputs, {"solution": solution})
    assert residual.abs().max() < 1e-10


def test_sources_live_on_the_periodic_unit_square():
    sampler = POISSON.sample()
    for grid in (Grid(16, length=2.0), Grid(16, periodic=False)):
        with pytest.raises(UsageError, match="unit square"):
            sampler.realise(sampler.draw([0]), grid, "cpu", torch.float32)
