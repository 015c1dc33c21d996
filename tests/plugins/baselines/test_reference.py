import pytest
import torch
from pdefm_baselines.mode_regression import ModeRegression
from pdefm_baselines.reference import Mean, Zero

from pdebench_fm.data.combine import Mixture
from pdebench_fm.errors import UnsupportedError
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from tests.plugins.baselines.synthetic import Synthetic, error, fit


def test_zero_has_a_relative_error_of_one(tmp_path):
    examples = Synthetic(5, 16)
    model = Zero()
    model.initialise(examples.problem, examples, seed=0)
    assert fit(model, examples, tmp_path).status == "ok"
    assert error(model, examples) == 1.0
    assert model.parameters == 0
    model.save(tmp_path)
    again = Zero()
    again.load(tmp_path)
    assert error(again, examples) == 1.0


def test_mean_is_the_mean_of_the_training_solutions(tmp_path, monkeypatch):
    monkeypatch.setattr("pdefm_baselines.reference.BATCH", 2)
    examples = Synthetic(5, 16)
    model = Mean()
    model.initialise(examples.problem, examples, seed=0)
    assert error(model, examples) == 1.0
    fit(model, examples, tmp_path)
    predicted = model.predict(examples.problem, examples.inputs)["solution"]
    assert torch.allclose(predicted, examples.outputs["solution"].mean(dim=0).expand_as(predicted), atol=1e-7)
    model.save(tmp_path)
    again = Mean()
    again.load(tmp_path)
    assert torch.equal(again.predict(examples.problem, examples.inputs)["solution"], predicted)


def test_mean_is_the_same_function_on_another_grid(tmp_path):
    coarse, fine = Synthetic(5, 16), Synthetic(5, 33)
    predictions = []
    for train in (coarse, fine):
        model = Mean()
        model.initialise(train.problem, train, seed=0)
        fit(model, train, tmp_path)
        predictions.append(model.predict(fine.problem, fine.inputs)["solution"])
    assert torch.allclose(*predictions, atol=1e-6)


def test_mean_is_not_resampled_where_the_grid_is_not_periodic(tmp_path):
    model, train = Mean(), Synthetic(5, 16)
    model.initialise(train.problem, train, seed=0)
    with pytest.raises(UnsupportedError, match="not periodic"):
        model.predict(train.problem.on(Grid(32, periodic=False)), Synthetic(2, 32).inputs)


def test_mean_of_data_that_are_not_finite_has_diverged(tmp_path):
    model, train = Mean(), Synthetic(5, 16)
    train.outputs["solution"][2, 3, 4] = torch.nan
    model.initialise(train.problem, train, seed=0)
    assert fit(model, train, tmp_path).status == "diverged"


@pytest.mark.parametrize("model", [Zero(), Mean()])
def test_there_is_one_trial_and_no_fine_tuning(model):
    assert len(model.search_space((1e-3, 1e-2))) == 1
    assert not model.warm_starts


def test_the_mean_of_a_mixture_is_over_the_examples_that_have_an_output(tmp_path):
    one, other = (
        SmoothExamples(Problem((Channel("source"),), (Channel(name),), Grid(8)), count)
        for name, count in (("u", 3), ("p", 5))
    )
    mixed = Mixture([one, other])
    model = Mean()
    model.initialise(mixed.problem, mixed, 0)
    assert fit(model, mixed, tmp_path).status == "ok"
    for part in (one, other):
        inputs, outputs = part.batch(range(len(part)))
        ((name, truth),) = outputs.items()
        torch.testing.assert_close(model.predict(part.problem, inputs)[name][0], truth.mean(dim=0))
    regression = ModeRegression(2)
    regression.initialise(mixed.problem, mixed, 0)
    with pytest.raises(UnsupportedError, match="every output"):
        fit(regression, mixed, tmp_path, ridge=1e-4)
