"""Checks of a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm._util.text import one_line
from pdebench_fm.data.open import problem_of
from pdebench_fm.errors import UnsupportedError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, Ids, OperatorModel, Progress, TrialSettings
from pdebench_fm.plan.model import ModelSpec, model_spec
from pdebench_fm.plan.sets import specify
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.registry import Registry, registry
from pdebench_fm.testing.claims import Check, Skipped, claims, expect, expect_close, guarded, parametrised
from pdebench_fm.testing.examples import SmoothExamples

_SOURCE, _SOLUTION = Channel("source"), Channel("solution")
_K = tuple(Channel(name, "constant") for name in ("k11", "k22", "k12"))
_ONE_MORE = Channel("one_more", "constant")
_SIZES = (16, 32, 64, 128, 256)
_RATES = (1e-3, 3e-3)
_EPOCHS, _STEPS = Budget(2, None, 4), Budget(None, 3, 4)
_ROUNDING = 1e-5
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


def model_checks(
    name: str,
    found: Registry | None = None,
    *,
    problem: Problem | str | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: runs the test once for each check of the registered model ``name``.

    Args:
        name: the model.
        found: where it is registered; everything installed by default.
        problem: what to check it on, for a model that takes channels of its own: a problem, or the distribution
            ``SUITE:NAME`` that has it. Only channels and grid are taken from there; values are smooth random ones.
        expected_failures: claim → reason; such a check must fail, and is shown with its reason.
        arguments: overrides of the model's arguments, e.g. a small width.
    """
    return parametrised(lambda: model_subject(name, arguments, found, problem), MODEL_CHECKS, expected_failures)


def checks_of_model(
    name: str, found: Registry | None = None, *, problem: Problem | str | None = None, **arguments: Any
) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered model, on the first problem it supports; arguments as for `model_checks`.

    Raises:
        UnknownNameError: it is not registered.
        UnsupportedError: it supports none of the problems tried.
        PluginError: it cannot be made.
        ConformanceError: it cannot say what it supports.
    """
    return claims(MODEL_CHECKS, model_subject(name, arguments, found, problem))


def model_subject(
    name: str, arguments: Mapping[str, Any], found: Registry | None = None, problem: Problem | str | None = None
) -> _ModelSubject:
    """Make the model and settle what it is checked on: a subject of `MODEL_CHECKS`; errors as for `checks_of_model`.

    A model that takes other channels is told so here, once, instead of failing every check with one line.
    """
    found = found or registry()
    tried = _USUAL if problem is None else _sizes(_problem_of(problem) if isinstance(problem, str) else problem)
    spec = model_spec(found, name, arguments)
    supported, reason = guarded(f"model {name!r}: supports fails", lambda: _first(spec.make(found), tried))
    if supported is None:
        advice = "give --distribution SUITE:NAME, one whose channels it takes (in Python: problem=)"
        what = "none of the problems tried" if problem is None else "not this problem"
        raise UnsupportedError(f"model {name!r} supports {what}: {reason}; {advice}")
    return _ModelSubject(spec, found, supported)


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


class _ModelSubject:
    """A model under test, and the small problem it is tested on."""

    def __init__(self, spec: ModelSpec, found: Registry, problem: Problem) -> None:
        self.spec = spec
        self.found = found
        self.problem = problem

    def new(self) -> OperatorModel:
        return self.spec.make(self.found)

    def on_two_fields(self) -> _ModelSubject:
        """The same model on a problem of two input fields, no constants and two outputs."""
        problem, reason = _first(self.new(), _TWO_FIELDS)
        if problem is None:
            raise Skipped(f"two input fields and two outputs are not supported: {reason}")
        return _ModelSubject(self.spec, self.found, problem)

    def ready(self, seed: int = 0) -> tuple[OperatorModel, SmoothExamples]:
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
        folder: Path,
        progress: Callable[[Progress], None] = lambda p: None,
        budget: Budget = _EPOCHS,
    ) -> FitReport:
        trial = TrialSettings(model.search_space(_RATES)[0], 7)
        folder.mkdir(parents=True, exist_ok=True)
        validation = SmoothExamples(data.problem, 4, seed=1)
        return model.fit(data, validation, budget, trial, FitContext(folder, progress=progress))


def check_declares_what_it_can(subject: _ModelSubject) -> None:
    """Class attributes are booleans and `supports` answers None or a reason."""
    model = subject.new()
    for name in ("learns_from_pretraining", "warm_starts", "from_scratch"):
        expect(isinstance(getattr(model, name), bool), f"{name} must be True or False, got {getattr(model, name)!r}")
    odd = Problem((Channel("source"),), (Channel("solution"),), Grid(7))
    for problem in (subject.problem, odd):
        reason = model.supports(problem)
        expect(reason is None or (isinstance(reason, str) and reason.strip() != ""),
                f"supports must return None or a reason, got {reason!r}")  # fmt: skip


def check_search_space_is_plain_numbers(subject: _ModelSubject) -> None:
    """There is at least one trial, and each is a mapping of names to finite numbers."""
    space = list(subject.new().search_space(_RATES))
    expect(len(space) > 0, "search_space must return at least one trial")
    for trial in space:
        finite = isinstance(trial, Mapping) and all(
            isinstance(k, str) and isinstance(v, int | float) and np.isfinite(v) for k, v in trial.items()
        )
        expect(finite, f"a trial must map names to finite numbers, got {trial!r}")


def check_predicts_every_output(subject: _ModelSubject) -> None:
    """`predict` returns each output as finite float32 of the shape of the fields."""
    model, data = subject.ready()
    prediction = _predict(model, data, range(3))
    size = data.problem.grid.size
    for name in data.problem.output_names:
        expect(name in prediction, f"predict must return {name!r}, got {sorted(prediction)}")
        value = prediction[name]
        expect(tuple(value.shape) == (3, size, size), f"{name} must be (3, {size}, {size}), got {tuple(value.shape)}")
        expect(str(value.dtype) == "torch.float32", f"{name} must be float32, got {value.dtype}")
        expect(bool(value.isfinite().all()), f"{name} must be finite")
        expect(not value.requires_grad, f"{name} must be detached from the graph")


def check_leaves_inputs_alone(subject: _ModelSubject) -> None:
    """`predict` does not change its inputs."""
    model, data = subject.ready()
    inputs, _ = data.batch(range(3))
    before = {name: value.clone() for name, value in inputs.items()}
    model.predict(data.problem, inputs)
    changed = [name for name, value in inputs.items() if not value.equal(before[name])]
    expect(not changed, f"predict changed its inputs {', '.join(changed)}")


def check_predicts_each_example_alone(subject: _ModelSubject) -> None:
    """An example's prediction does not depend on the batch it comes in."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, data, Path(folder))
    together = _predict(model, data, range(4))
    for i in range(4):
        alone = _predict(model, data, [i])
        expect_close({n: v[i : i + 1] for n, v in together.items()}, alone, "a prediction depends on its batch")


def check_seed_fixes_initialisation(subject: _ModelSubject) -> None:
    """Two models initialised with one seed predict the same."""
    (first, data), (second, _) = subject.ready(3), subject.ready(3)
    expect_close(_predict(first, data, range(2)), _predict(second, data, range(2)), "one seed gave two models")


def check_fits_and_reports(subject: _ModelSubject) -> None:
    """A short fit ends well, its report is plain, and the model predicts finite numbers afterwards."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        report = subject.fit(model, data, Path(folder))
    expect(
        report.status == "ok",
        f"a short fit on smooth data must end with status ok, got {report.status}: {report.reason}",
    )
    counts = (report.epochs, report.steps, report.train_seconds, report.data_seconds)
    expect(all(np.isfinite(count) and count >= 0 for count in counts), f"a report's counts must be >= 0, got {counts}")
    expect(
        isinstance(model.parameters, int) and model.parameters >= 0,
        f"parameters must be a count, got {model.parameters!r}",
    )
    finite = all(bool(value.isfinite().all()) for value in _predict(model, data, range(2)).values())
    expect(finite, "predictions must be finite after a fit")


def check_fits_by_steps(subject: _ModelSubject) -> None:
    """A budget may be given in steps instead of epochs, as suites give it for fine-tuning."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        report = subject.fit(model, data, Path(folder), budget=_STEPS)
    expect(report.status == "ok", f"a fit of {_STEPS.steps} steps must end with status ok, got {report.status}")


def check_takes_a_part_of_its_problem(subject: _ModelSubject) -> None:
    """Made for one input more, as by a mixture of PDEs, it predicts without it, and is fitted further if it can be."""
    if not subject.new().learns_from_pretraining:
        raise Skipped("it declares learns_from_pretraining = False")
    whole = replace(subject.problem, inputs=(*subject.problem.inputs, _ONE_MORE))
    model = subject.new()
    reason = model.supports(whole)
    if reason is not None:
        raise Skipped(f"one more constant is not supported: {reason}")
    model.initialise(whole, SmoothExamples(whole, 8), 0)
    data = SmoothExamples(subject.problem, 8)
    to = data if model.warm_starts else SmoothExamples(whole, 8)
    with tempfile.TemporaryDirectory() as folder:
        report = subject.fit(model, to, Path(folder))
    expect(report.status == "ok", f"a fit to a part of the problem must end with status ok, got {report.status}")
    finite = all(bool(value.isfinite().all()) for value in _predict(model, data, range(2)).values())
    expect(finite, "predictions on a part of the problem must be finite")


def check_fit_is_reproducible(subject: _ModelSubject) -> None:
    """Same start, data, budget and trial: same model."""
    outcomes = []
    for _ in range(2):
        model, data = subject.ready()
        with tempfile.TemporaryDirectory() as folder:
            subject.fit(model, data, Path(folder))
        outcomes.append(_predict(model, data, range(2)))
    expect_close(outcomes[0], outcomes[1], "one fit gave two models")


def check_saves_and_loads(subject: _ModelSubject) -> None:
    """A loaded model predicts what the saved one did, and has as many parameters."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, data, Path(folder) / "workspace")
        loaded = subject.reloaded(model, Path(folder) / "saved")
        expect(loaded.parameters == model.parameters, f"{model.parameters} parameters became {loaded.parameters}")
        expect_close(_predict(model, data, range(2)), _predict(loaded, data, range(2)), "saving changed the model")


def check_continues_after_loading(subject: _ModelSubject) -> None:
    """A model that declares warm_starts can be fitted further after loading, and ends elsewhere than one that begins.

    Otherwise its fine-tuning would be training from scratch under another name.
    """
    model, data = subject.ready()
    if not model.warm_starts:
        raise Skipped("it declares warm_starts = False")
    beginner, _ = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, SmoothExamples(data.problem, 8, seed=2), Path(folder) / "first")
        loaded = subject.reloaded(model, Path(folder) / "saved")
        report = subject.fit(loaded, data, Path(folder) / "second")
        expect(report.status == "ok", f"a loaded model must fit further, got {report.status}: {report.reason}")
        subject.fit(beginner, data, Path(folder) / "beginner")
    inputs, _ = SmoothExamples(data.problem, 4, seed=3).batch(range(4))  # unseen: the seen may be met by many weights
    if _moved(beginner, data.problem, inputs, data.problem.input_names) < _ROUNDING:
        raise Skipped("its predictions depend on no input")
    moved = _change(loaded.predict(data.problem, inputs), beginner.predict(data.problem, inputs))
    expect(not moved <= _ROUNDING, "it declares warm_starts, but a fit forgets what was learnt before")


def check_a_killed_fit_can_be_repeated(subject: _ModelSubject) -> None:
    """A fit stopped half-way and called again with the same workspace ends with the weights of an undisturbed one."""
    undisturbed, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(undisturbed, data, Path(folder) / "undisturbed")
        killed, _ = subject.ready()
        try:
            subject.fit(killed, data, Path(folder) / "killed", progress=_stop)
        except KeyboardInterrupt:
            killed, _ = subject.ready()
            subject.fit(killed, data, Path(folder) / "killed")
        else:
            raise Skipped("it reports no progress, so that nothing stops it half-way")
    expect_close(_predict(undisturbed, data, range(2)), _predict(killed, data, range(2)), "a repeated fit differs")


def check_sees_its_constants(subject: _ModelSubject) -> None:
    """Once fitted, predictions change where examples exchange their constants."""
    if not subject.problem.constants:
        raise Skipped("it was checked on a problem without constants")
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, data, Path(folder))
    inputs, _ = data.batch(range(4))
    if _moved(model, data.problem, inputs, data.problem.input_names) < _ROUNDING:
        raise Skipped("its predictions depend on no input")
    by = _moved(model, data.problem, inputs, data.problem.constants)
    expect(by > _ROUNDING, f"predictions change by {by:.0e} of their size when examples exchange their constants: the "
           "model does not see them (e.g. a normalisation removes what is constant in space)")  # fmt: skip


def check_predicts_every_output_of_two(subject: _ModelSubject) -> None:
    """`predict` keeps its claim on a problem of two input fields, no constants and two outputs."""
    check_predicts_every_output(subject.on_two_fields())


def check_leaves_two_inputs_alone(subject: _ModelSubject) -> None:
    """It does the same with two input fields."""
    check_leaves_inputs_alone(subject.on_two_fields())


def check_fits_two_outputs(subject: _ModelSubject) -> None:
    """A short fit to two outputs ends well."""
    check_fits_and_reports(subject.on_two_fields())


def check_saves_and_loads_two_outputs(subject: _ModelSubject) -> None:
    """A model of two outputs predicts the same after loading."""
    check_saves_and_loads(subject.on_two_fields())


MODEL_CHECKS: tuple[Callable[[_ModelSubject], None], ...] = (
    check_declares_what_it_can,
    check_search_space_is_plain_numbers,
    check_predicts_every_output,
    check_leaves_inputs_alone,
    check_predicts_each_example_alone,
    check_seed_fixes_initialisation,
    check_fits_and_reports,
    check_fits_by_steps,
    check_takes_a_part_of_its_problem,
    check_fit_is_reproducible,
    check_saves_and_loads,
    check_continues_after_loading,
    check_a_killed_fit_can_be_repeated,
    check_sees_its_constants,
    check_predicts_every_output_of_two,
    check_leaves_two_inputs_alone,
    check_fits_two_outputs,
    check_saves_and_loads_two_outputs,
)


def _predict(model: OperatorModel, data: Examples, ids: Ids) -> Fields:
    return model.predict(data.problem, data.batch(ids)[0])


def _moved(model: OperatorModel, problem: Problem, inputs: Fields, names: Sequence[str]) -> float:
    """By how much predictions change, relative to their size, where examples exchange these inputs."""
    exchanged = {name: values.roll(1, 0) if name in names else values for name, values in inputs.items()}
    return _change(model.predict(problem, exchanged), model.predict(problem, inputs))


def _change(others: Fields, own: Fields) -> float:
    """The largest change of an output, relative to its size."""
    pairs = [(others[name].detach().double(), own[name].detach().double()) for name in own]
    return max(float((other - mine).norm() / mine.norm().clamp(min=1e-30)) for other, mine in pairs)


def _stop(progress: Progress) -> None:
    raise KeyboardInterrupt
