"""The model under test, and the small problems it is tested on."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from pdebench_fm._util.text import one_line
from pdebench_fm.data.open import problem_of
from pdebench_fm.errors import PLUGIN_ERRORS, UnsupportedError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, Ids, OperatorModel, Progress, TrialSettings
from pdebench_fm.plan.model import ModelSpec, model_spec
from pdebench_fm.plan.sets import specify
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.registry import Registry, registry
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.testing.claims import TOLERANCE, Skipped, expect
from pdebench_fm.testing.examples import SmoothExamples

_SOURCE, _SOLUTION = Channel("source"), Channel("solution")
_K = tuple(Channel(name, "constant") for name in ("k11", "k22", "k12"))
_SIZES = (16, 32, 64, 128, 256)
_RATES = (1e-3, 3e-3)
EPOCHS = Budget(2, None, 4)
_LONG, _LONG_RATES = (Budget(60, None, 4), Budget(200, None, 4)), (1e-2, 3e-3, 3e-2, 1e-3)
"""Most models have fitted four examples after 60 epochs; only the others take 200."""
FITTED = 0.8
"""Share of the mean's error below which a model has fitted one batch."""
ROUNDING = 1e-5
"""Relative change of predictions below which they are taken for the same."""
_USUAL = tuple(
    problem
    for size in _SIZES
    for problem in (
        Problem((_SOURCE, *_K), (_SOLUTION,), Grid(size), homogeneous=True),
        Problem((_SOURCE,), (_SOLUTION,), Grid(size)),
    )
)
_TWO_FIELDS = tuple(
    Problem((Channel("coefficient"), _SOURCE), (Channel("pressure"), Channel("velocity")), Grid(size))
    for size in _SIZES
)


def model_subject(
    name: str, arguments: Mapping[str, Any], found: Registry | None = None, problem: Problem | str | None = None
) -> ModelSubject:
    """Make the model and settle what it is checked on: a subject of `MODEL_CHECKS`; errors as for `checks_of_model`.

    A model that takes other channels is told so here, once, instead of failing every check with one line.
    """
    found = found or registry()
    tried = _USUAL if problem is None else _sizes(_problem_of(problem) if isinstance(problem, str) else problem)
    spec = model_spec(found, name, arguments)
    supported, reason = call_plugin(f"model {name!r}: supports fails", lambda: _first(spec.make(found), tried))
    if supported is None:
        advice = "give --distribution SUITE:NAME, one whose channels it takes (in Python: problem=)"
        what = "none of the problems tried" if problem is None else "not this problem"
        raise UnsupportedError(f"model {name!r} supports {what}: {reason}; {advice}")
    return ModelSubject(spec, found, supported)


def _problem_of(reference: str) -> Problem:
    """The problem of a distribution ``SUITE:NAME``."""
    from pdebench_fm.suite.reading import find_distribution

    suite, title = find_distribution(reference)
    distribution = suite.distributions[title]
    split = next(iter(distribution.files)) if distribution.files else "test"
    return problem_of(specify(distribution, registry(), split, 1, _SIZES[0], suite.data_seed), registry())


def _sizes(problem: Problem) -> tuple[Problem, ...]:
    """The same problem on small grids first: values are made up, so a check need not be as large as the data."""
    sizes = dict.fromkeys((*_SIZES, problem.grid.size))
    return tuple(problem.on(replace(problem.grid, size=size)) for size in sizes)


def _first(model: OperatorModel, problems: Sequence[Problem]) -> tuple[Problem | None, str]:
    """The first of ``problems`` that the model supports; if there is none, why not the first."""
    reasons = []
    for problem in problems:
        reason = model.supports(problem)
        if reason is None:
            return problem, ""
        reasons.append(one_line(reason) or "it gives no reason")
    return None, reasons[0]


class ModelSubject:
    """A model under test, and the small problem it is tested on."""

    def __init__(self, spec: ModelSpec, found: Registry, problem: Problem) -> None:
        self.spec = spec
        self.found = found
        self.problem = problem

    def new(self) -> OperatorModel:
        """The model without weights."""
        return self.spec.make(self.found)

    @cached_property
    def two_fields(self) -> ModelSubject:
        """The same model on a problem of two input fields, no constants and two outputs."""
        problem, reason = _first(self.new(), _TWO_FIELDS)
        if problem is None:
            raise Skipped(f"two input fields and two outputs are not supported: {reason}")
        return ModelSubject(self.spec, self.found, problem)

    def ready(self, seed: int = 0) -> tuple[OperatorModel, SmoothExamples]:
        """The model initialised on a few examples, and these."""
        model, data = self.new(), SmoothExamples(self.problem, 8)
        model.initialise(data.problem, data, seed)
        return model, data

    def reloaded(self, model: OperatorModel, folder: Path) -> OperatorModel:
        """The model after saving it into a new folder and loading it from there."""
        folder.mkdir()
        model.save(folder)
        again = self.new()
        again.load(folder)
        return again

    def fit(
        self,
        model: OperatorModel,
        data: Examples,
        folder: Path | None = None,
        *,
        progress: Callable[[Progress], None] = lambda p: None,
        budget: Budget = EPOCHS,
        hyperparameters: Mapping[str, float] | None = None,
        validation: Examples | None = None,
    ) -> FitReport:
        """Fit in a workspace, by default one of its own, with the first value of the search space."""
        trial = TrialSettings(hyperparameters or model.search_space(_RATES)[0], 7)
        validation = validation or SmoothExamples(data.problem, 4, seed=1)
        with tempfile.TemporaryDirectory() as own:
            workspace = folder or Path(own)
            workspace.mkdir(exist_ok=True)
            report = model.fit(data, validation, budget, trial, FitContext(workspace, progress=progress))
        expect(report.status != "ok" or not trial.ignored, trial.ignored)
        return report

    @cached_property
    def fitted(self) -> tuple[OperatorModel, SmoothExamples, FitReport]:
        """The model after a short fit, its examples and the report.

        Checks share it: they may predict with it and save it, but not fit it further.
        """
        model, data = self.ready()
        return model, data, self.fit(model, data)

    def soundly_fitted(self) -> tuple[OperatorModel, SmoothExamples]:
        """The same; skips a check that would only repeat in other words that a short fit fails."""
        if self._unsound:
            raise Skipped(f"nothing to compare: see {self._unsound}")
        model, data, _ = self.fitted
        return model, data

    @cached_property
    def _unsound(self) -> str:
        """The claim that a short fit breaks, or empty."""
        try:
            model, data, report = self.fitted
            first, again = predict(model, data, range(2)), predict(model, data, range(2))
        except PLUGIN_ERRORS:
            return "fits and reports"
        if report.status != "ok" or not all(bool(value.isfinite().all()) for value in first.values()):
            return "fits and reports"
        return "predicts the same twice" if change(again, first) > TOLERANCE else ""

    @cached_property
    def long_fit(self) -> LongFit:
        """What a long fit to four examples achieves with the best value of the search space."""
        data = SmoothExamples(self.problem, 4)
        _, outputs = data.batch(range(4))
        mean = {name: value.mean(dim=0, keepdim=True).expand_as(value) for name, value in outputs.items()}
        best = LongFit(math.inf, math.inf, _error(mean, outputs))
        for budget, hyperparameters in product(_LONG, self.new().search_space(_LONG_RATES)):
            model = self.new()
            model.initialise(self.problem, data, 0)
            before = _error(predict(model, data, range(4)), outputs)
            report = self.fit(model, data, budget=budget, hyperparameters=hyperparameters, validation=data)
            after = _error(predict(model, data, range(4)), outputs) if report.status == "ok" else math.inf
            if after < best.after or best.before == math.inf:
                best = LongFit(before, after, best.mean)
            if best.fits:
                break
        return best


@dataclass(frozen=True)
class LongFit:
    """Relative errors on the examples that a model was fitted to.

    Args:
        before: of the model before the fit.
        after: of the model after it.
        mean: of their mean, which depends on no input.
    """

    before: float
    after: float
    mean: float

    @property
    def learns(self) -> bool:
        """Whether the fit has made the error smaller."""
        return self.after < 0.98 * self.before

    @property
    def fits(self) -> bool:
        """Whether the error is well below that of the mean."""
        return self.after < FITTED * self.mean


def predict(model: OperatorModel, data: Examples, ids: Ids) -> Fields:
    """Predict the examples ``ids``."""
    return model.predict(data.problem, data.batch(ids)[0])


def moved(model: OperatorModel, data: Examples, names: Sequence[str]) -> float:
    """By how much predictions change, relative to their size, if examples exchange these inputs."""
    inputs, _ = data.batch(range(4))
    exchanged = {name: (values.roll(1, 0) if name in names else values).clone() for name, values in inputs.items()}
    return change(model.predict(data.problem, exchanged), model.predict(data.problem, inputs))


def change(others: Fields, own: Fields) -> float:
    """The largest change of an output, relative to its size."""
    pairs = [(others[name].detach().double(), own[name].detach().double()) for name in own]
    return max(float((other - mine).norm() / mine.norm().clamp(min=1e-30)) for other, mine in pairs)


def _error(prediction: Fields, target: Fields) -> float:
    """Relative error of all outputs together."""
    missed = sum(float((prediction[name] - value).detach().double().square().sum()) for name, value in target.items())
    return math.sqrt(missed / sum(float(value.double().square().sum()) for value in target.values()))
