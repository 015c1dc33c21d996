from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pdebench_fm.data.open import OpenSet
from pdebench_fm.errors import DataFileError, RunError
from pdebench_fm.interfaces import Examples
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.registry.discovery import registry
from pdebench_fm.scoring.bootstrap import interval
from pdebench_fm.scoring.point import per_sample
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"),), (Channel("solution"), Channel("pressure")), Grid(4))
SCORE = registry().load("metrics", "relative_l2")()


class Levels(Examples):
    """Two outputs, each constant over the grid: example i has (levels[i], 0)."""

    def __init__(self, levels: Sequence[float]) -> None:
        self._levels = np.array(levels, dtype=np.float32)

    @property
    def problem(self) -> Problem:
        return PROBLEM

    def __len__(self) -> int:
        return len(self._levels)

    def batch(self, ids: Sequence[int] | np.ndarray) -> tuple[Fields, Fields]:
        first = torch.from_numpy(self._levels[np.asarray(ids)])[:, None, None].expand(-1, 4, 4)
        return {"source": first}, {"solution": first, "pressure": torch.zeros_like(first)}


class Half(Toy):
    """Predicts half of what the first output is, and ``pressure`` of zero."""

    def predict(self, problem: Problem, inputs: Fields) -> Fields:  # type: ignore[misc]
        return {"solution": inputs["source"] / 2, "pressure": torch.zeros_like(inputs["source"])}


def scores(levels: Sequence[float], model: Toy | None = None) -> np.ndarray:
    return per_sample(model or Half(), [OpenSet(Levels(levels), None, name="plates.h5")], {"relative_l2": SCORE})[
        "relative_l2"
    ]


def test_examples_are_scored_in_order_over_several_chunks() -> None:
    assert scores(range(1, CHUNK + 3)) == pytest.approx(np.full(CHUNK + 2, 0.5))


@pytest.mark.parametrize(("level", "what"), [(0.0, "zero everywhere"), (math.nan, "not finite")])
def test_an_example_that_no_relative_error_is_defined_for_is_blamed_on_the_data(level: float, what: str) -> None:
    """Otherwise the model would be said to have diverged."""
    with pytest.raises(DataFileError, match=f"^plates.h5: the reference solution of example {CHUNK + 1} is {what}"):
        scores([*range(1, CHUNK + 2), level, 0.0])


def test_an_output_that_is_missing_is_named() -> None:
    class Forgetful(Half):
        def predict(self, problem: Problem, inputs: Fields) -> Fields:  # type: ignore[misc]
            return {"solution": inputs["source"]}

    with pytest.raises(RunError, match=r"'pressure' of shape \(2, 4, 4\), got nothing"):
        scores([1.0, 2.0], Forgetful())


def test_more_outputs_than_needed_do_no_harm() -> None:
    class Generous(Half):
        def predict(self, problem: Problem, inputs: Fields) -> Fields:  # type: ignore[misc]
            return {**super().predict(problem, inputs), "attention": None}  # type: ignore[dict-item]

    assert scores([1, 2], Generous()) == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("summary", [lambda values: np.median(values), lambda values: values.mean(axis=0)])
def test_a_summary_over_other_axes_has_no_interval(summary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(5.0)
    low, high = interval(SCORE, values)
    assert low < 2 < high
    monkeypatch.setattr(type(SCORE), "summarise", lambda _, values: summary(values))
    with pytest.raises(RunError, match=r"^summarise must return \(…\) for \(…, examples\): \(1000,\), got \("):
        interval(SCORE, values)
