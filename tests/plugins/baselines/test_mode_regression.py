import json

import numpy as np
import pytest
import torch
from pdefm_baselines.mode_regression import ModeRegression
from pdefm_baselines.modes import coefficients, evaluate

from pdebench_fm.errors import DataFileError, SettingError
from pdebench_fm.problem import Channel, Grid, Problem
from tests.plugins.baselines.synthetic import Synthetic, error, fit, screened_poisson


def fitted(train, path, ridge=1e-8, **arguments):
    model = ModeRegression(**{"modes": 5, "degree": 2, **arguments})
    model.initialise(train.problem, train, seed=0)
    assert fit(model, train, path, ridge=ridge).status == "ok"
    return model


def test_a_linear_operator_is_recovered_to_rounding(tmp_path):
    model = fitted(Synthetic(40, 16), tmp_path)
    assert error(model, Synthetic(10, 16, seed=1)) < 1e-6


def test_it_needs_no_constants(tmp_path):
    model = fitted(Synthetic(40, 16, constant=False), tmp_path)
    assert error(model, Synthetic(10, 16, seed=1, constant=False)) < 1e-6


def test_a_model_of_degree_zero_is_the_best_single_operator_and_a_higher_degree_is_better(tmp_path):
    train, test = Synthetic(300, 16, low=0.5, high=1.5), Synthetic(50, 16, seed=1, low=0.5, high=1.5)
    errors = [error(fitted(train, tmp_path, degree=degree), test) for degree in (0, 1, 2, 3)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 10


def test_fewer_examples_than_features_are_enough_to_fit(tmp_path):
    assert error(fitted(Synthetic(1, 16), tmp_path), Synthetic(1, 16)) < 1e-5


def test_it_predicts_the_same_function_on_a_finer_and_an_odd_grid(tmp_path):
    model = fitted(Synthetic(40, 16), tmp_path)
    for n in (32, 17):
        assert error(model, Synthetic(10, n, seed=1)) < 1e-6


def test_batches_do_not_change_the_fit(tmp_path, monkeypatch):
    train = Synthetic(40, 16, low=0.5, high=1.5)
    whole = fitted(train, tmp_path)
    monkeypatch.setattr("pdefm_baselines.mode_regression.BATCH", 7)
    test = Synthetic(5, 16, seed=1, low=0.5, high=1.5)
    assert error(fitted(train, tmp_path), test) == pytest.approx(error(whole, test), rel=1e-6)


def test_pretraining_pays_where_examples_are_few_and_the_arms_are_tuned_alike(tmp_path):
    pretraining = Synthetic(300, 16, low=0.2, high=2)
    few, test = Synthetic(2, 16, seed=1, low=0.5, high=2.2), Synthetic(50, 16, seed=2, low=0.5, high=2.2)
    ridges = [trial["ridge"] for trial in ModeRegression().search_space((1.0,) * 5)]
    zero_shot = error(fitted(pretraining, tmp_path, degree=3), test)
    scratch = min(error(fitted(few, tmp_path, ridge=ridge, degree=3), test) for ridge in ridges)
    tuned = []
    for ridge in ridges:
        model = fitted(pretraining, tmp_path, degree=3)
        fit(model, few, tmp_path, ridge=ridge)
        tuned.append(error(model, test))
    assert min(tuned) < 0.9 * zero_shot < 0.2 * scratch


def test_a_strong_ridge_keeps_what_the_model_knows(tmp_path):
    model = fitted(Synthetic(40, 16), tmp_path)
    test = Synthetic(10, 16, seed=1)
    fit(model, Synthetic(2, 16, seed=2, low=3, high=4), tmp_path, ridge=1e9)
    assert error(model, test) < 1e-6


def test_a_mode_without_data_keeps_its_coefficients(tmp_path):
    train = Synthetic(4, 16)
    silent = Synthetic(4, 16)
    silent.inputs["source"] = torch.zeros_like(silent.inputs["source"])
    silent.outputs["solution"] = torch.zeros_like(silent.outputs["solution"])
    model = fitted(train, tmp_path)
    before = error(model, train)
    assert fit(model, silent, tmp_path, ridge=1e-8).status == "ok"
    assert error(model, train) == before


def test_a_smaller_problem_is_embedded(tmp_path):
    model = fitted(Synthetic(40, 16, low=0.5, high=1.5), tmp_path)
    inputs, _ = Synthetic(3, 16, constant=False).batch([0, 1, 2])
    assert model.predict(screened_poisson(16, constant=False), inputs)["solution"].shape == (3, 16, 16)


def test_data_that_are_not_finite_are_reported_as_divergence(tmp_path):
    train = Synthetic(4, 16)
    train.outputs["solution"][0] = torch.inf
    model = ModeRegression(modes=5)
    model.initialise(train.problem, train, seed=0)
    with np.errstate(invalid="ignore"):
        report = fit(model, train, tmp_path, ridge=1e-4)
    assert report.status == "diverged"
    assert report.reason
    assert torch.isfinite(model.predict(train.problem, train.inputs)["solution"]).all()


def test_a_saved_model_predicts_the_same_numbers(tmp_path):
    train = Synthetic(40, 16, low=0.5, high=1.5)
    model = fitted(train, tmp_path)
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = ModeRegression(model.modes, model.degree)
    again.load(tmp_path / "saved")
    assert torch.equal(
        again.predict(train.problem, train.inputs)["solution"], model.predict(train.problem, train.inputs)["solution"]
    )
    assert again.parameters == model.parameters == 2 * 11 * 6 * 3


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({}))
    with pytest.raises(DataFileError, match="cannot be read"):
        ModeRegression().load(tmp_path)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("arguments", "modes"), 5.0, "arguments.modes"),
        (("arguments", "modes"), 6, "made with modes=6, this model has modes=5"),
        (("problem", "grid", "periodic"), "false", "grid.periodic: must be true or false, got 'false'"),
        (("problem", "outputs"), ["solution", "pressure"], r"'weights' must be complex \(66, 3, 2\), got complex128"),
        (("normalisation", "homogeneous"), None, "homogeneous: must be true or false, got nothing"),
    ],
)
def test_what_a_saved_file_says_is_taken_literally(tmp_path, keys, value, said):
    model = fitted(Synthetic(40, 16, low=0.5, high=1.5), tmp_path)
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    about = json.loads((tmp_path / "saved" / "model.json").read_text())
    part = about
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (tmp_path / "saved" / "model.json").write_text(json.dumps(about))
    with pytest.raises(DataFileError, match=said):
        ModeRegression(model.modes, model.degree).load(tmp_path / "saved")


def test_it_searches_as_many_strengths_as_networks_search_rates():
    assert len(ModeRegression().search_space((1e-3, 1e-2, 1e-1))) == 3
    assert ModeRegression().search_space((1e-3,)) == [{"ridge": 1e-4}]


def test_it_says_what_it_cannot_take():
    problem = screened_poisson(32)
    assert ModeRegression(modes=15).supports(problem) is None
    assert "33" in (ModeRegression(modes=16).supports(problem) or "")
    bounded = Problem(problem.inputs, (Channel("solution"),), Grid(32, periodic=False))
    assert "periodic" in (ModeRegression().supports(bounded) or "")
    with pytest.raises(SettingError, match="degree"):
        ModeRegression(degree=-1)


@pytest.mark.parametrize("n", [11, 12, 31, 32])
def test_coefficients_and_fields_are_inverse_below_the_limit(n):
    field = evaluate(coefficients(np.random.default_rng(0).standard_normal((2, 11, 11)), 5), n)
    again = evaluate(coefficients(field, 5), n)
    assert np.allclose(again, field, atol=1e-14)
