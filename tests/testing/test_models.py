"""The checks of models can fail: for each there is a model that breaks that claim and no other."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pdebench_fm.errors import PluginError, UnsupportedError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.registry.discovery import registry
from pdebench_fm.testing import MODEL_CHECKS, checks_of_model, model_checks
from tests.testing.outcomes import outcomes


class Good(OperatorModel):
    """u = a c f + b for each output, f the blurred fields, c the constants' product: two numbers, by least squares."""

    def __init__(self) -> None:
        self.weights = np.zeros((1, 2))
        self.loaded = False

    @property
    def parameters(self) -> int:
        return self.weights.size

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        self.weights = np.random.default_rng(seed).standard_normal((len(problem.outputs), 2))

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        inputs, outputs = train.batch(range(len(train)))
        source = self.known(train.problem, inputs).double().numpy().ravel()
        design = np.stack([source, np.ones_like(source)], axis=1)
        context.progress(Progress(0, 1))
        targets = np.stack([value.double().numpy().ravel() for value in outputs.values()], axis=1)
        self.weights = 0.1 * self.before() + 0.9 * np.linalg.lstsq(design, targets, rcond=None)[0].T
        context.progress(Progress(1, 1))
        return FitReport(epochs=1)

    def before(self) -> np.ndarray:
        """What a fit goes on from."""
        return self.weights

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        weights = zip(problem.output_names, self.weights, strict=True)
        return {name: (self.known(problem, inputs) * a + b).float() for name, (a, b) in weights}

    def known(self, problem: Problem, inputs: Fields) -> Tensor:
        return self.blurred(problem, inputs) * self.factor(problem, inputs)

    def blurred(self, problem: Problem, inputs: Fields) -> Tensor:
        fields = torch.stack([inputs[name] for name in problem.input_fields]).sum(dim=0)
        spectrum = torch.fft.fft2(fields)
        waves = torch.fft.fftfreq(fields.shape[-1], 1 / fields.shape[-1]).abs() <= 2
        return torch.fft.ifft2(spectrum * waves[:, None] * waves).real

    def factor(self, problem: Problem, inputs: Fields) -> Tensor:
        factors = [inputs[name][:, None, None] for name in problem.constants]
        return math.prod(factors, start=torch.ones(()))

    def save(self, path: Path) -> None:
        (path / "weights.json").write_text(json.dumps(self.weights.tolist()))

    def load(self, path: Path, device: str = "cpu") -> None:
        self.weights = np.asarray(json.loads((path / "weights.json").read_text()))
        self.loaded = True


class DeclaresNumbers(Good):
    warm_starts: ClassVar[Any] = 1


class RefusesWithoutReason(Good):
    def supports(self, problem: Problem) -> str | None:
        return " " if problem.grid.size == 7 else None


class SearchesNaN(Good):
    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{"learning_rate": 1e-3}, {"learning_rate": math.nan}]


class SearchesWhatItNeverReads(Good):
    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{"learning_rate": rate, "embedding_factor": 2.0} for rate in rates]


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
        report = super().fit(*arguments)
        object.__setattr__(report, "train_seconds", -1.0)  # past the check of FitReport itself
        return report


class PredictsNaNOnceFitted(Good):
    def fit(self, *arguments: Any) -> FitReport:
        report = super().fit(*arguments)
        self.weights = self.weights * math.nan
        return report


class FitsAtRandom(Good):
    calls: ClassVar[Any] = itertools.count()

    def fit(self, *arguments: Any) -> FitReport:
        report = super().fit(*arguments)
        self.weights = self.weights + 0.06 * (0.618 * next(self.calls) % 1)
        return report


class LosesItsWeights(Good):
    def save(self, path: Path) -> None:
        (path / "weights.json").write_text(json.dumps(np.zeros_like(self.weights).tolist()))


class DivergesOnceLoaded(Good):
    def fit(self, *arguments: Any) -> FitReport:
        return FitReport("diverged", "lost its optimiser") if self.loaded else super().fit(*arguments)


class StartsAfresh(Good):
    def before(self) -> np.ndarray:
        return np.zeros_like(self.weights)


class CountsInEpochs(Good):
    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        if budget.epochs is None:
            return FitReport("diverged", "for ever")
        return super().fit(train, validation, budget, trial, context)


class WantsAllItsInputs(Good):
    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        super().initialise(problem, train, seed)
        self.problem = problem

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        whole = getattr(self, "problem", problem)
        lost = math.nan if set(whole.input_names) - set(inputs) else 0.0
        return {name: value + lost for name, value in super().predict(problem, inputs).items()}


class BelievesItHasFinished(Good):
    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        started = context.workspace / "started"
        if started.exists():
            return FitReport(epochs=1)
        started.touch()
        return super().fit(train, validation, budget, trial, context)


class OverlooksTheConstants(Good):
    def factor(self, problem: Problem, inputs: Fields) -> Tensor:
        return torch.ones(())


class OverlooksTheSource(Good):
    def blurred(self, problem: Problem, inputs: Fields) -> Tensor:
        others = {name: value for name, value in inputs.items() if name != "source"}
        return super().blurred(problem, {**others, "source": torch.zeros_like(inputs["source"])})

    def factor(self, problem: Problem, inputs: Fields) -> Tensor:
        return torch.ones(())


class LooksAtOneOfTwo(Good):
    def blurred(self, problem: Problem, inputs: Fields) -> Tensor:
        return super().blurred(replace(problem, inputs=(Channel("source"),)), inputs)


class LearnsNothing(Good):
    def fit(self, *arguments: Any) -> FitReport:
        arguments[-1].progress(Progress(1, 1))
        return FitReport(epochs=1)


class LearnsLittle(Good):
    def fit(self, *arguments: Any) -> FitReport:
        before = self.weights
        report = super().fit(*arguments)
        self.weights = 0.9 * before + 0.1 * self.weights
        return report


class PredictsAtRandom(Good):
    calls: ClassVar[Any] = itertools.count()

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        noise = 1 + 0.1 * (next(self.calls) % 7)
        return {name: value * noise for name, value in super().predict(problem, inputs).items()}


class Networked(Good):
    """Has a network of two weights, which a fit moves as far as each needs a gradient."""

    has_network: ClassVar[bool] = True
    inner: nn.Module

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        super().initialise(problem, train, seed)
        self.inner = nn.Linear(1, 1)

    @property
    def network(self) -> nn.Module | None:
        return getattr(self, "inner", None)

    def fit(self, *arguments: Any) -> FitReport:
        for parameter in self.inner.parameters() if hasattr(self, "inner") else ():
            if parameter.requires_grad or not self.careful:
                parameter.data += 1
        return super().fit(*arguments)

    careful = True


class TrainsWhatIsFrozen(Networked):
    careful = False


class HidesItsNetwork(Networked):
    has_network: ClassVar[bool] = False


class KnowsOneOutput(Good):
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return dict([*super().predict(problem, inputs).items()][:1])


class ChangesItsOtherInput(Good):
    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        for name in {*problem.input_fields} - {"source"}:
            inputs[name].mul_(2)
        return super().predict(problem, inputs)


class DivergesOnTwoOutputs(Good):
    def fit(self, *arguments: Any) -> FitReport:
        report = super().fit(*arguments)
        return report if len(self.weights) == 1 else FitReport("diverged", "one too many")


class LosesItsOtherOutput(Good):
    def save(self, path: Path) -> None:
        self.weights[1:] = self.weights[:1]
        super().save(path)

    def load(self, path: Path, device: str = "cpu") -> None:
        super().load(path)
        self.weights[1:] = 0.0


# What fails with each; that a fit is random shows wherever two fits are compared.
BROKEN: dict[type[Good], set[str]] = {
    DeclaresNumbers: {"declares_what_it_can"},
    RefusesWithoutReason: {"declares_what_it_can"},
    SearchesNaN: {"search_space_is_plain_numbers"},
    SearchesWhatItNeverReads: {"fits_and_reports", "predicts_the_same_twice", "fits_two_outputs"},
    PredictsFloat64: {"predicts_every_output", "predicts_every_output_of_two"},
    PredictsWithGradient: {"predicts_every_output", "predicts_every_output_of_two"},
    ChangesItsInputs: {"leaves_inputs_alone", "leaves_two_inputs_alone"},
    LooksAtTheBatch: {"predicts_each_example_alone"},
    IgnoresItsSeed: {"seed_fixes_initialisation", "fit_is_reproducible", "a_killed_fit_can_be_repeated"},
    ReportsNegativeTime: {"fits_and_reports", "fits_two_outputs"},
    PredictsNaNOnceFitted: {"fits_and_reports", "fits_two_outputs"},
    PredictsAtRandom: {"predicts_the_same_twice"},
    FitsAtRandom: {"fit_is_reproducible", "a_killed_fit_can_be_repeated"},
    LosesItsWeights: {"saves_and_loads", "saves_and_loads_two_outputs"},
    DivergesOnceLoaded: {"continues_after_loading"},
    StartsAfresh: {"continues_after_loading"},
    CountsInEpochs: {"fits_by_steps"},
    WantsAllItsInputs: {"takes_a_part_of_its_problem"},
    BelievesItHasFinished: {"a_killed_fit_can_be_repeated"},
    OverlooksTheSource: {"uses_its_inputs", "uses_both_inputs"},
    LooksAtOneOfTwo: {"uses_both_inputs"},
    LearnsNothing: {"learns"},
    LearnsLittle: {"fits_one_batch"},
    TrainsWhatIsFrozen: {"leaves_frozen_weights_alone"},
    HidesItsNetwork: {"leaves_frozen_weights_alone"},
    OverlooksTheConstants: {"sees_its_constants"},
    KnowsOneOutput: {"predicts_every_output_of_two"},
    ChangesItsOtherInput: {"leaves_two_inputs_alone"},
    DivergesOnTwoOutputs: {"fits_two_outputs"},
    LosesItsOtherOutput: {"saves_and_loads_two_outputs"},
}


def failing(model: Callable[[], OperatorModel], **on: Any) -> dict[str, str]:
    """The claims that a model breaks, and what is said of each."""
    said = outcome(model, **on)
    return {claim: text for claim, text in said.items() if not text.startswith("skipped")}


def outcome(model: Callable[[], OperatorModel], **on: Any) -> dict[str, str]:
    """The claims that a model breaks or that are skipped, and what is said of each."""
    found = registry().with_model(ModelEntry("broken", "1", model, ""))
    return outcomes(checks_of_model("broken", found, **on))


@pytest.mark.parametrize("made", [Good, lambda: Good()], ids=["class", "function"])
def test_a_good_model_passes_all(made: Callable[[], OperatorModel]) -> None:
    assert failing(made) == {}


@pytest.mark.parametrize(("model", "claims"), BROKEN.items(), ids=[model.__name__ for model in BROKEN])
def test_a_broken_model_fails_the_claim_it_breaks(model: type[Good], claims: set[str]) -> None:
    said = failing(model)
    assert said.keys() == claims
    assert all(text and len(text.splitlines()) == 1 for text in said.values())


def test_every_claim_on_models_can_be_broken() -> None:
    assert {claim for claims in BROKEN.values() for claim in claims} == {
        check.__name__.removeprefix("check_") for check in MODEL_CHECKS
    }


NO_NETWORK = {"leaves_frozen_weights_alone": "skipped: it declares has_network = False"}


class Haughty(Good):
    def supports(self, problem: Problem) -> str | None:
        return "beneath\nme"


class OfOtherChannels(Good):
    """Takes one problem alone, that of `OTHER`."""

    def supports(self, problem: Problem) -> str | None:
        return None if set(problem.inputs) == set(OTHER.inputs) else "wants a permeability"


OTHER = Problem((Channel("source"), Channel("permeability")), (Channel("pressure"),), Grid(24, 2.0))


def test_a_model_that_supports_nothing_is_told_so_once_with_its_own_reason_and_what_to_do() -> None:
    with pytest.raises(UnsupportedError) as refused:
        failing(Haughty)
    assert str(refused.value) == (
        "model 'broken' supports none of the problems tried: beneath me; "
        "give --distribution SUITE:NAME, one whose channels it takes (in Python: problem=)"
    )
    with pytest.raises(UnsupportedError, match="supports not this problem: wants a permeability; give"):
        failing(OfOtherChannels, problem="smoke:SYS-1(1,5)")


def test_a_model_of_other_channels_is_checked_on_the_problem_it_is_given() -> None:
    reason = "skipped: two input fields and two outputs are not supported: wants a permeability"
    skipped = NO_NETWORK | dict.fromkeys(("predicts_every_output_of_two", "leaves_two_inputs_alone", "uses_both_inputs",
                                          "fits_two_outputs", "saves_and_loads_two_outputs"), reason)  # fmt: skip
    skipped["sees_its_constants"] = "skipped: it was checked on a problem without constants"
    skipped["takes_a_part_of_its_problem"] = "skipped: one more constant is not supported: wants a permeability"
    assert outcome(OfOtherChannels, problem=OTHER) == skipped


def test_channels_may_come_from_a_distribution_and_its_grid_from_what_the_model_takes(tmp_path: Path) -> None:
    seen = set()

    class Watched(Good):
        def supports(self, problem: Problem) -> str | None:
            return None if problem.grid.size == 32 else "32 points a side, please"

        def predict(self, problem: Problem, inputs: Fields) -> Fields:
            seen.add((problem.input_names, problem.grid.size, problem.homogeneous))
            return super().predict(problem, inputs)

    assert failing(Watched, problem="smoke:SYS-3(1,5)") == {}
    assert seen == {(("source", "k11", "k22", "k12", "omega"), 32, True), (("coefficient", "source"), 32, False)}


def test_a_model_that_does_not_warm_start_skips_that_claim_visibly() -> None:
    class Stubborn(Good):
        warm_starts: ClassVar[Any] = False

    assert outcome(Stubborn) == NO_NETWORK | {"continues_after_loading": "skipped: it declares warm_starts = False"}


def test_what_follows_from_a_failure_is_skipped_and_refers_to_it() -> None:
    class Blind(Good):
        def known(self, problem: Problem, inputs: Fields) -> Tensor:
            return torch.zeros_like(inputs["source"])

    said = outcome(Blind)
    assert {claim for claim, text in said.items() if "ignores it" in text} == {"uses_its_inputs", "uses_both_inputs"}
    assert {said[claim] for claim in ("sees_its_constants", "continues_after_loading", "fits_one_batch")} == {
        "skipped: its predictions depend on no input: see uses its inputs"
    }
    not_finite = outcome(PredictsNaNOnceFitted)
    referring = "skipped: nothing to compare: see fits and reports"
    assert {claim for claim, text in not_finite.items() if text == referring} >= {"learns", "saves_and_loads"}
    assert "see learns" in outcome(LearnsNothing)["fits_one_batch"]


def test_a_baseline_declares_that_it_ignores_its_inputs() -> None:
    class Baseline(Good):
        ignores_inputs: ClassVar[bool] = True

        def known(self, problem: Problem, inputs: Fields) -> Tensor:
            return torch.zeros_like(inputs["source"])

    assert failing(Baseline) == {}


def test_a_model_that_reports_no_progress_cannot_be_stopped_and_says_so() -> None:
    class Silent(Good):
        def fit(self, *arguments: Any) -> FitReport:
            return super().fit(*arguments[:-1], replace(arguments[-1], progress=lambda _: None))

    said = outcome(Silent)
    assert said == NO_NETWORK | {
        "a_killed_fit_can_be_repeated": "skipped: it reports no progress, so that nothing stops it half-way"
    }


def test_what_a_constructor_raises_is_one_line() -> None:
    class Abstract(OperatorModel):
        pass

    class Silent(Good):
        def supports(self, problem: Problem) -> str | None:
            raise ZeroDivisionError("no\nidea")

    with pytest.raises(PluginError, match=r"model 'broken' of plugin .*: TypeError: Can't instantiate abstract"):
        failing(Abstract)
    with pytest.raises(PluginError, match="model 'broken': supports fails: ZeroDivisionError: no idea"):
        failing(Silent)


@model_checks("good", registry().with_model(ModelEntry("good", "1", Good, "")))
def test_the_decorator_runs_one_case_a_claim(check: Any) -> None:
    check()
