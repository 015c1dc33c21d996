from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pdebench_fm.data.open import OpenSet
from pdebench_fm.interfaces import Examples
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.registry.discovery import registry
from pdebench_fm.scoring.probes import SAMPLES, coefficient_rise, keep_samples
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"), Channel("k", "constant")), (Channel("solution"),), Grid(8))
SCORE = registry().load("metrics", "relative_l2")()


class Scaled(Examples):
    """Example i has the source 1 and the solution k = i + 1."""

    def __init__(self, problem: Problem = PROBLEM, count: int = 100) -> None:
        self._problem, self._count = problem, count

    @property
    def problem(self) -> Problem:
        return self._problem

    def __len__(self) -> int:
        return self._count

    def batch(self, ids: Sequence[int] | np.ndarray) -> tuple[Fields, Fields]:
        k = torch.as_tensor(np.asarray(ids) + 1.0, dtype=torch.float32)
        planes = torch.ones(len(k), 8, 8)
        inputs = {"source": planes, **({"k": k} if self._problem.constants else {})}
        return inputs, {"solution": planes * k[:, None, None]}


class Predictor(Toy):
    """Predicts k · factor, or the constant 7."""

    def __init__(self, factor: float | None) -> None:
        super().__init__()
        self.factor = factor

    def predict(self, problem: Problem, inputs: Fields) -> Fields:  # type: ignore[misc]
        if self.factor is None:
            return {"solution": inputs["source"] * 7}
        return {"solution": inputs["source"] * inputs["k"][:, None, None] * self.factor}


def values_of(model: Predictor, examples: Examples) -> np.ndarray:
    inputs, target = examples.batch(range(len(examples)))
    return SCORE.per_sample(PROBLEM, inputs, model.predict(PROBLEM, inputs), target, None).double().numpy()


def test_coefficients_that_are_all_equal_cannot_be_exchanged() -> None:
    class Equal(Scaled):
        def batch(self, ids: Sequence[int] | np.ndarray) -> tuple[Fields, Fields]:
            inputs, target = super().batch(ids)
            wobble = 1e-7 * torch.as_tensor(np.asarray(ids) % 2, dtype=torch.float32)  # no more than rounding
            return {**inputs, "k": torch.ones(len(wobble)) + wobble}, target

    examples, model = Equal(), Predictor(1.0)
    sets = [OpenSet(examples, None)]
    assert coefficient_rise(model, sets, SCORE, values_of(model, examples)) is None


def test_a_model_that_looks_at_its_coefficients_suffers_from_wrong_ones() -> None:
    examples = Scaled()
    model = Predictor(1.1)
    rise = coefficient_rise(model, [OpenSet(examples, None)], SCORE, values_of(model, examples))
    assert rise is not None
    assert rise > 3


def test_a_model_that_does_not_look_keeps_its_error() -> None:
    examples = Scaled()
    model = Predictor(None)
    rise = coefficient_rise(model, [OpenSet(examples, None)], SCORE, values_of(model, examples))
    assert rise == pytest.approx(0.0, abs=1e-12)


def test_no_example_keeps_its_own_coefficients() -> None:
    examples = Scaled(count=2)
    model = Predictor(1.0)  # perfect: any rise comes from the exchange alone
    values = values_of(model, examples) + 1.0
    # k = 1 predicted as 2 is an error of 1; k = 2 predicted as 1 of 1/2.
    assert coefficient_rise(model, [OpenSet(examples, None)], SCORE, values) == pytest.approx(0.75 - 1.0)


@pytest.mark.parametrize("examples", [Scaled(Problem(PROBLEM.inputs[:1], PROBLEM.outputs, Grid(8))), Scaled(count=1)])
def test_where_there_is_nothing_to_exchange_nothing_is_reported(examples: Scaled) -> None:
    assert coefficient_rise(Predictor(None), [OpenSet(examples, None)], SCORE, np.ones(len(examples))) is None


def test_best_median_and_worst_are_kept(tmp_path: Path) -> None:
    first, second = Scaled(count=3), Scaled(count=2)
    values = np.array([0.5, 0.1, 0.4, 0.9, 0.3])  # the worst is the first of the second set
    keep_samples(Predictor(2.0), [OpenSet(first, None), OpenSet(second, None)], values, tmp_path)
    with np.load(tmp_path / SAMPLES) as kept:
        assert kept["examples"].tolist() == [1, 2, 3]
        assert kept["errors"].tolist() == [0.1, 0.4, 0.9]
        assert kept["truth"][:, 0, 0].tolist() == [2.0, 3.0, 1.0]
        assert kept["prediction"][:, 0, 0].tolist() == [4.0, 6.0, 2.0]
        assert kept["source"].shape == (3, 8, 8)
        assert kept["channels"].tolist() == ["source", "solution"]
    assert [file.name for file in tmp_path.iterdir()] == [SAMPLES]
