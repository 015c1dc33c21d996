"""The conformance checks can fail: for each there is a model, metric, … that breaks that claim and no other."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytest
import torch
from torch import Tensor

from pdebench_fm.data.hdf5 import export
from pdebench_fm.errors import PdefmError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import (
    Budget,
    Examples,
    FitContext,
    FitReport,
    Metric,
    OperatorModel,
    PDESystem,
    Progress,
    TransferProtocol,
    Trial,
)
from pdebench_fm.plugins import registry
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.testing import (
    METRIC_CHECKS,
    MODEL_CHECKS,
    PROTOCOL_CHECKS,
    ConformanceError,
    SmoothExamples,
    checks_of_distribution,
    checks_of_model,
    model_checks,
)
from pdebench_fm.testing.distributions import check_splits_differ


class Good(OperatorModel):
    """u = a f + b, two numbers, random at first and found by least squares."""

    def __init__(self) -> None:
        self.weights = np.zeros(2)
        self.loaded = False

    @property
    def parameters(self) -> int:
        return 2

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        self.weights = np.random.default_rng(seed).standard_normal(2)

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: Trial, context: FitContext
    ) -> FitReport:
        inputs, outputs = train.batch(range(len(train)))
        source = inputs["source"].double().numpy().ravel()
        design = np.stack([source, np.ones_like(source)], axis=1)
        context.progress(Progress(0, 1))
        self.weights = np.linalg.lstsq(design, outputs["solution"].double().numpy().ravel())[0]
        context.progress(Progress(1, 1))
        return FitReport(epochs=1)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return {"solution": (inputs["source"] * self.weights[0] + self.weights[1]).float()}

    def save(self, path: Path) -> None:
        (path / "weights.json").write_text(json.dumps(self.weights.tolist()))

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> Self:
        model = cls()
        model.weights = np.asarray(json.loads((path / "weights.json").read_text()))
        model.loaded = True
        return model


class DeclaresNumbers(Good):
    warm_starts: ClassVar[Any] = 1


class RefusesWithoutReason(Good):
    def supports(self, problem: Problem) -> str | None:
        return " " if problem.grid.size == 7 else None


class SearchesNaN(Good):
    def search_space(self, budget: Budget) -> Sequence[Mapping[str, float]]:
        return [{"learning_rate": 1e-3}, {"learning_rate": math.nan}]


class PredictsFloat64(Good):
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return {name: value.double() for name, value in super().predict(problem, inputs).items()}


class PredictsWithGradient(Good):
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return {name: value.requires_grad_() for name, value in super().predict(problem, inputs).items()}


class ChangesItsInputs(Good):
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        prediction = super().predict(problem, inputs)
        inputs["source"].mul_(2)
        return prediction


class LooksAtTheBatch(Good):
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return {name: value - value.mean(dim=0) for name, value in super().predict(problem, inputs).items()}


class IgnoresItsSeed(Good):
    calls: ClassVar[Any] = itertools.count()

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        super().initialise(problem, train, next(self.calls))


class ReportsNegativeTime(Good):
    def fit(self, *arguments: Any) -> FitReport:
        super().fit(*arguments)
        return FitReport(epochs=1, train_seconds=-1.0)


class PredictsNaNOnceFitted(Good):
    def fit(self, *arguments: Any) -> FitReport:
        report = super().fit(*arguments)
        self.weights = self.weights * math.nan
        return report


class FitsAtRandom(Good):
    calls: ClassVar[Any] = itertools.count()

    def fit(self, *arguments: Any) -> FitReport:
        report = super().fit(*arguments)
        self.weights = self.weights + next(self.calls)
        return report


class LosesItsWeights(Good):
    def save(self, path: Path) -> None:
        (path / "weights.json").write_text("[0, 0]")


class DivergesOnceLoaded(Good):
    def fit(self, *arguments: Any) -> FitReport:
        return FitReport("diverged", "lost its optimiser") if self.loaded else super().fit(*arguments)


class BelievesItHasFinished(Good):
    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: Trial, context: FitContext
    ) -> FitReport:
        started = context.workspace / "started"
        if started.exists():
            return FitReport(epochs=1)
        started.touch()
        return super().fit(train, validation, budget, trial, context)


# What fails with each; that a fit is random shows wherever two fits are compared, NaN wherever predictions are.
BROKEN: dict[type[Good], set[str]] = {
    DeclaresNumbers: {"declares_what_it_can"},
    RefusesWithoutReason: {"declares_what_it_can"},
    SearchesNaN: {"search_space_is_plain_numbers"},
    PredictsFloat64: {"predicts_every_output"},
    PredictsWithGradient: {"predicts_every_output"},
    ChangesItsInputs: {"leaves_inputs_alone"},
    LooksAtTheBatch: {"predicts_each_example_alone"},
    IgnoresItsSeed: {"seed_fixes_initialisation"},
    ReportsNegativeTime: {"fits_and_reports"},
    PredictsNaNOnceFitted: {
        "fits_and_reports",
        "fit_is_reproducible",
        "predicts_each_example_alone",
        "saves_and_loads",
        "a_killed_fit_can_be_repeated",
    },
    FitsAtRandom: {"fit_is_reproducible", "a_killed_fit_can_be_repeated"},
    LosesItsWeights: {"saves_and_loads"},
    DivergesOnceLoaded: {"continues_after_loading"},
    BelievesItHasFinished: {"a_killed_fit_can_be_repeated"},
}


def failing(model: type[OperatorModel]) -> dict[str, str]:
    """The claims that a model breaks, and what is said of it."""
    found = registry().with_model(ModelEntry("broken", "1", model, ""))
    said = {}
    for claim, check in checks_of_model("broken", found):
        try:
            check()
        except ConformanceError as error:
            said[claim] = str(error)
    return said


def test_a_good_model_passes_all() -> None:
    assert failing(Good) == {}


@pytest.mark.parametrize(("model", "claims"), BROKEN.items(), ids=[model.__name__ for model in BROKEN])
def test_a_broken_model_fails_the_claim_it_breaks(model: type[Good], claims: set[str]) -> None:
    said = failing(model)
    assert said.keys() == claims
    assert all(text and len(text.splitlines()) == 1 for text in said.values())


def test_every_claim_on_models_can_be_broken() -> None:
    assert {claim for claims in BROKEN.values() for claim in claims} == {
        check.__name__.removeprefix("check_") for check in MODEL_CHECKS
    }


def test_a_model_that_supports_nothing_is_told_its_own_reason() -> None:
    class Haughty(Good):
        def supports(self, problem: Problem) -> str | None:
            return "beneath me"

    assert "beneath me" in failing(Haughty)["declares_what_it_can"]


@model_checks("good", registry().with_model(ModelEntry("good", "1", Good, "")))
def test_the_decorator_runs_one_case_a_claim(check: Any) -> None:
    check()


# Metrics ---------------------------------------------------------------------------------------------------------


class Difference(Metric):
    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        return (prediction["solution"] - target["solution"]).double().flatten(1).norm(dim=1)


class Floored(Difference):
    def per_sample(self, *arguments: Any) -> Tensor:
        return super().per_sample(*arguments) + 1e-6


class OneForAll(Difference):
    def per_sample(self, *arguments: Any) -> Tensor:
        return super().per_sample(*arguments).mean(dim=0, keepdim=True)


class SkipsNaN(Difference):
    def summarise(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.nanmean(values, axis=-1))


class HigherIsBetter(Difference):
    def per_sample(self, *arguments: Any) -> Tensor:
        return -super().per_sample(*arguments)


@pytest.mark.parametrize(
    ("metric", "claims"),
    [
        (Difference, set()),
        (Floored, {"check_truth_scores_zero"}),
        (OneForAll, {"check_truth_scores_zero"}),
        (SkipsNaN, {"check_nan_stays_nan"}),
        (HigherIsBetter, {"check_worse_scores_higher"}),
    ],
)
def test_a_metric_fails_the_claim_it_breaks(metric: type[Metric], claims: set[str]) -> None:
    assert broken(METRIC_CHECKS, metric()) == claims


# Protocols -------------------------------------------------------------------------------------------------------


class Head(TransferProtocol):
    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream

    def adapt(
        self,
        model: OperatorModel,
        train: Examples,
        validation: Examples,
        budget: Budget,
        trial: Trial,
        context: FitContext,
    ) -> FitReport:
        return FitReport()


class Backwards(Head):
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream[::-1]


class Nowhere(Head):
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return ()


class FromThinAir(Head):
    @property
    def starts_from(self) -> Any:
        return "thin air"


@pytest.mark.parametrize(
    ("protocol", "claims"),
    [
        (Head, set()),
        (Backwards, {"check_sizes_are_counts"}),
        (Nowhere, {"check_sizes_are_counts"}),
        (FromThinAir, {"check_start_is_known"}),
    ],
)
def test_a_protocol_fails_the_claim_it_breaks(protocol: type[TransferProtocol], claims: set[str]) -> None:
    assert broken(PROTOCOL_CHECKS, protocol()) == claims


# Distributions ---------------------------------------------------------------------------------------------------

FILES = """\
name: files
version: 1
description: Two files, three splits.
default_profile: tiny
distributions:
  D: {files: {train: first.h5, validation: second.h5, test: TEST}}
  P: {files: {pretraining: second.h5, validation: second.h5, test: first.h5}}
pretraining: {P: [P]}
tasks: [{name: T, pretraining: P, downstream: D, shift: none}]
protocols: [zero-shot]
profiles:
  tiny:
    grid: 16
    examples: {pretraining: 4, validation: 4, test: 4, downstream: [4]}
    training: {epochs: 1, learning_rates: [1e-3]}
    fine_tuning: {epochs: 1, learning_rates: [1e-3]}
"""


def suite_of_files(folder: Path, test: str) -> Path:
    problem = Problem((Channel("source"),), (Channel("solution"),), Grid(16))
    for seed, name in enumerate(("first", "second", "third")):
        examples = SmoothExamples(problem, 9, seed)
        export(folder / f"{name}.h5", problem, iter([examples.batch(range(9))]), 9, {})
    path = folder / "files.yaml"
    path.write_text(FILES.replace("TEST", test), encoding="utf-8")
    return path


def test_files_keep_every_claim_on_distributions(tmp_path: Path) -> None:
    for _, check in checks_of_distribution(f"{suite_of_files(tmp_path, 'third.h5')}:D"):
        check()


def test_training_on_the_test_file_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="an example occurs in two splits"):
        check_splits_differ(f"{suite_of_files(tmp_path, 'first.h5')}:D")


def broken(checks: Sequence[Any], subject: Any) -> set[str]:
    """Names of the checks that ``subject`` fails."""
    names = set()
    for check in checks:
        try:
            check(subject)
        except PdefmError:
            names.add(check.__name__)
    return names


def test_the_examples_of_the_checks_do_not_depend_on_their_count() -> None:
    problem = Problem((Channel("source"), Channel("k", "constant")), (Channel("solution"),), Grid(16))
    few, many = SmoothExamples(problem, 2).batch([1]), SmoothExamples(problem, 8).batch([1])
    assert torch.equal(few[1]["solution"], many[1]["solution"])
