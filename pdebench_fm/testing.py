"""Conformance checks for models, distributions, metrics and protocols, yours and ours.

In your plugin's tests:

    from pdebench_fm.testing import model_checks

    @model_checks("my-model")
    def test_conformance(check):
        check()

``pdefm check model my-model`` runs the same checks. Each check is a function with one claim; it raises
`ConformanceError` with what was expected and what came.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdebench_fm.errors import PdefmError
from pdebench_fm.interfaces import (
    Budget,
    Examples,
    FitContext,
    FitReport,
    Ids,
    Metric,
    OperatorModel,
    Progress,
    TransferProtocol,
    Trial,
)
from pdebench_fm.plan import ModelSpec, model_spec
from pdebench_fm.plugins import Registry, registry
from pdebench_fm.problem import Channel, Fields, Grid, Problem

if TYPE_CHECKING:
    from torch import Tensor

Check = Callable[[], None]
_TOLERANCE = 2e-4


class ConformanceError(PdefmError, AssertionError):
    """Something does not keep the interface; the text says what."""


class SmoothExamples(Examples):
    """Random smooth fields and constants; the output is the blurred input field times the sum of the constants.

    Any problem, any size, no plugin needed. Example i is the same whatever the count.
    """

    def __init__(self, problem: Problem, count: int, seed: int = 0) -> None:
        self._problem = problem
        self._count = count
        self._seed = seed

    @property
    def problem(self) -> Problem:
        """The problem given."""
        return self._problem

    def __len__(self) -> int:
        return self._count

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Make the examples ``ids``."""
        import torch

        made = [self._example(int(i)) for i in ids]
        inputs = {c.name: torch.stack([example[c.name] for example in made]) for c in self._problem.inputs}
        blurred = _smooth(sum((inputs[name] for name in self._problem.input_fields), start=torch.zeros(())), 2)
        for name in self._problem.constants:
            blurred = blurred * inputs[name][:, None, None]
        return inputs, dict.fromkeys(self._problem.output_names, blurred)

    def _example(self, number: int) -> dict[str, Tensor]:
        import torch

        random = np.random.Generator(np.random.Philox(key=[self._seed, number]))
        size = self._problem.grid.size
        made = {}
        for channel in self._problem.inputs:
            if channel.role == "field":
                made[channel.name] = _smooth(torch.from_numpy(random.standard_normal((size, size))).float(), 4)
            else:
                made[channel.name] = torch.tensor(random.uniform(0.5, 1.5), dtype=torch.float32)
        return made


def model_checks(name: str, found: Registry | None = None, **arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: runs the test once for each check of the registered model ``name``.

    Args:
        name: the model.
        found: where it is registered; everything installed by default.
        arguments: overrides of the model's arguments, e.g. a small width.
    """
    return _parametrised(lambda: checks_of_model(name, found, **arguments), MODEL_CHECKS)


def distribution_checks(reference: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks the sampler and the PDE behind a distribution ``SUITE:NAME``."""
    return _parametrised(lambda: checks_of_distribution(reference), DISTRIBUTION_CHECKS)


def metric_checks(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered metric."""
    return _parametrised(lambda: checks_of_metric(name), METRIC_CHECKS)


def protocol_checks(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered protocol."""
    return _parametrised(lambda: checks_of_protocol(name), PROTOCOL_CHECKS)


def checks_of_model(name: str, found: Registry | None = None, **arguments: Any) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered model, on the first problem it supports."""
    found = found or registry()
    subject = _Subject(model_spec(found, name, arguments), found)
    return ((check.__name__.removeprefix("check_"), partial(check, subject)) for check in MODEL_CHECKS)


def checks_of_distribution(reference: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a distribution ``SUITE:NAME``."""
    checks = ((check.__name__.removeprefix("check_"), partial(check, reference)) for check in DISTRIBUTION_CHECKS)
    return checks


def checks_of_metric(name: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered metric."""
    metric = registry().load("metrics", name)()
    return ((check.__name__.removeprefix("check_"), partial(check, metric)) for check in METRIC_CHECKS)


def checks_of_protocol(name: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered protocol."""
    protocol = registry().load("protocols", name)()
    return ((check.__name__.removeprefix("check_"), partial(check, protocol)) for check in PROTOCOL_CHECKS)


# Models ----------------------------------------------------------------------------------------------------------


class _Subject:
    """A model under test, and the small problem it is tested on."""

    def __init__(self, spec: ModelSpec, found: Registry) -> None:
        self.spec = spec
        self.found = found
        self.kind: Any = found.load("models", spec.name)

    def new(self) -> OperatorModel:
        return self.spec.make(self.found)

    def problem(self) -> Problem:
        """The first problem that the model supports, of a few sizes and channels."""
        model, reasons = self.new(), []
        constants = tuple(Channel(name, "constant") for name in ("k11", "k22", "k12"))
        for size in (16, 32, 64, 128, 256):
            for extra in (constants, ()):
                inputs = (Channel("source"), *extra)
                problem = Problem(inputs, (Channel("solution"),), Grid(size), homogeneous=bool(extra))
                reason = model.supports(problem)
                if reason is None:
                    return problem
                reasons.append(reason)
        raise ConformanceError(f"supports none of the problems tried; the first reason: {reasons[0]}")

    def ready(self, seed: int = 0) -> tuple[OperatorModel, SmoothExamples]:
        model, data = self.new(), SmoothExamples(self.problem(), 8)
        model.initialise(data.problem, data, seed)
        return model, data

    def fit(
        self, model: OperatorModel, data: Examples, folder: Path, progress: Callable[[Progress], None] = lambda p: None
    ) -> FitReport:
        budget = Budget(2, None, 4, (1e-3, 3e-3))
        trial = Trial(model.search_space(budget)[0], 7)
        folder.mkdir(parents=True, exist_ok=True)
        validation = SmoothExamples(data.problem, 4, seed=1)
        return model.fit(data, validation, budget, trial, FitContext(folder, progress=progress))


def check_declares_what_it_can(subject: _Subject) -> None:
    """Class attributes are booleans and `supports` answers None or a reason."""
    model = subject.new()
    for name in ("learns_from_pretraining", "warm_starts", "from_scratch"):
        _expect(isinstance(getattr(model, name), bool), f"{name} must be True or False, got {getattr(model, name)!r}")
    odd = Problem((Channel("source"),), (Channel("solution"),), Grid(7))
    for problem in (subject.problem(), odd):
        reason = model.supports(problem)
        _expect(reason is None or (isinstance(reason, str) and reason.strip() != ""),
                f"supports must return None or a reason, got {reason!r}")  # fmt: skip


def check_search_space_is_plain_numbers(subject: _Subject) -> None:
    """There is at least one trial, and each is a mapping of names to finite numbers."""
    space = list(subject.new().search_space(Budget(1, None, 4, (1e-3, 3e-3))))
    _expect(len(space) > 0, "search_space must return at least one trial")
    for trial in space:
        finite = isinstance(trial, Mapping) and all(
            isinstance(k, str) and isinstance(v, int | float) and np.isfinite(v) for k, v in trial.items()
        )
        _expect(finite, f"a trial must map names to finite numbers, got {trial!r}")


def check_predicts_every_output(subject: _Subject) -> None:
    """`predict` returns each output as finite float32 of the shape of the fields."""
    model, data = subject.ready()
    prediction = _predict(model, data, range(3))
    size = data.problem.grid.size
    for name in data.problem.output_names:
        _expect(name in prediction, f"predict must return {name!r}, got {sorted(prediction)}")
        value = prediction[name]
        _expect(tuple(value.shape) == (3, size, size), f"{name} must be (3, {size}, {size}), got {tuple(value.shape)}")
        _expect(str(value.dtype) == "torch.float32", f"{name} must be float32, got {value.dtype}")
        _expect(bool(value.isfinite().all()), f"{name} must be finite")
        _expect(not value.requires_grad, f"{name} must be detached from the graph")


def check_leaves_inputs_alone(subject: _Subject) -> None:
    """`predict` does not change its inputs."""
    model, data = subject.ready()
    inputs, _ = data.batch(range(3))
    before = {name: value.clone() for name, value in inputs.items()}
    model.predict(data.problem, inputs)
    changed = [name for name, value in inputs.items() if not value.equal(before[name])]
    _expect(not changed, f"predict changed its inputs {', '.join(changed)}")


def check_predicts_each_example_alone(subject: _Subject) -> None:
    """An example's prediction does not depend on the batch it comes in."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, data, Path(folder))
    together = _predict(model, data, range(4))
    for i in range(4):
        alone = _predict(model, data, [i])
        _expect_close({n: v[i : i + 1] for n, v in together.items()}, alone, "a prediction depends on its batch")


def check_seed_fixes_initialisation(subject: _Subject) -> None:
    """Two models initialised with one seed predict the same."""
    (first, data), (second, _) = subject.ready(3), subject.ready(3)
    _expect_close(_predict(first, data, range(2)), _predict(second, data, range(2)), "one seed gave two models")


def check_fits_and_reports(subject: _Subject) -> None:
    """A short fit ends well, its report is plain, and the model predicts finite numbers afterwards."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        report = subject.fit(model, data, Path(folder))
    _expect(
        report.status == "ok",
        f"a short fit on smooth data must end with status ok, got {report.status}: {report.reason}",
    )
    counts = (report.epochs, report.steps, report.train_seconds, report.data_seconds)
    _expect(all(np.isfinite(count) and count >= 0 for count in counts), f"a report's counts must be >= 0, got {counts}")
    _expect(
        isinstance(model.parameters, int) and model.parameters >= 0,
        f"parameters must be a count, got {model.parameters!r}",
    )
    finite = all(bool(value.isfinite().all()) for value in _predict(model, data, range(2)).values())
    _expect(finite, "predictions must be finite after a fit")


def check_fit_is_reproducible(subject: _Subject) -> None:
    """Same start, data, budget and trial: same model."""
    outcomes = []
    for _ in range(2):
        model, data = subject.ready()
        with tempfile.TemporaryDirectory() as folder:
            subject.fit(model, data, Path(folder))
        outcomes.append(_predict(model, data, range(2)))
    _expect_close(outcomes[0], outcomes[1], "one fit gave two models")


def check_saves_and_loads(subject: _Subject) -> None:
    """A loaded model predicts what the saved one did, and has as many parameters."""
    model, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, data, Path(folder) / "workspace")
        saved = Path(folder) / "saved"
        saved.mkdir()
        model.save(saved)
        loaded = subject.kind.load(saved)
        _expect(loaded.parameters == model.parameters, f"{model.parameters} parameters became {loaded.parameters}")
        _expect_close(_predict(model, data, range(2)), _predict(loaded, data, range(2)), "saving changed the model")


def check_continues_after_loading(subject: _Subject) -> None:
    """A model that declares warm_starts can be fitted further after it was saved and loaded."""
    model, data = subject.ready()
    if not model.warm_starts:
        return
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(model, data, Path(folder) / "first")
        saved = Path(folder) / "saved"
        saved.mkdir()
        model.save(saved)
        loaded = subject.kind.load(saved)
        report = subject.fit(loaded, data, Path(folder) / "second")
    _expect(report.status == "ok", f"a loaded model must fit further, got {report.status}: {report.reason}")


def check_a_killed_fit_can_be_repeated(subject: _Subject) -> None:
    """A fit stopped half-way and called again with the same workspace ends where an undisturbed one does."""
    undisturbed, data = subject.ready()
    with tempfile.TemporaryDirectory() as folder:
        subject.fit(undisturbed, data, Path(folder) / "undisturbed")
        killed, _ = subject.ready()
        try:
            subject.fit(killed, data, Path(folder) / "killed", progress=_stop)
        except KeyboardInterrupt:
            killed, _ = subject.ready()
            subject.fit(killed, data, Path(folder) / "killed")
    _expect_close(_predict(undisturbed, data, range(2)), _predict(killed, data, range(2)), "a repeated fit differs")


MODEL_CHECKS: tuple[Callable[[_Subject], None], ...] = (
    check_declares_what_it_can,
    check_search_space_is_plain_numbers,
    check_predicts_every_output,
    check_leaves_inputs_alone,
    check_predicts_each_example_alone,
    check_seed_fixes_initialisation,
    check_fits_and_reports,
    check_fit_is_reproducible,
    check_saves_and_loads,
    check_continues_after_loading,
    check_a_killed_fit_can_be_repeated,
)

# Distributions ---------------------------------------------------------------------------------------------------


def check_examples_do_not_depend_on_company(reference: str) -> None:
    """Example i is the same in a larger set, in another order, and alone."""
    few, many = _open(reference, 4), _open(reference, 9)
    whole, _ = many.examples.batch(range(9))
    _expect_close(
        {n: v[:4] for n, v in whole.items()}, few.examples.batch(range(4))[0], "a set's size changes examples"
    )
    shuffled, _ = many.examples.batch([7, 2, 5])
    _expect_close({n: v[[7, 2, 5]] for n, v in whole.items()}, shuffled, "the order changes examples")


def check_splits_differ(reference: str) -> None:
    """No example of one split occurs in another."""
    from pdebench_fm.api import find_distribution
    from pdebench_fm.interfaces import SPLITS

    suite, title = find_distribution(reference)
    splits = suite.distributions[title].files or SPLITS
    firsts = [_open(reference, 8, split=split).examples.batch(range(8))[0] for split in splits]
    for i, one in enumerate(firsts):
        for other in firsts[:i]:
            name = next(name for name, value in one.items() if value.ndim == 3)
            gaps = (one[name][:, None] - other[name][None]).abs().amax(dim=(-2, -1))
            _expect(bool((gaps > 0).all()), "an example occurs in two splits")


def check_solution_solves_the_pde(reference: str) -> None:
    """In float64 the residual of the solution is below 1e-10 of the largest term scale."""
    import torch

    opened = _open(reference, 8)
    if opened.system is None:
        return
    inputs, _ = opened.examples.batch(range(8))
    exact = {name: value.double() for name, value in inputs.items()}
    solution = opened.system.solve(exact)
    residual = opened.system.residual(exact, solution).flatten(1).norm(dim=1)
    scale = exact[opened.system.problem.input_fields[0]].flatten(1).norm(dim=1)
    worst = float((residual / scale).max())
    _expect(worst < 1e-10, f"the relative residual must be below 1e-10, got {worst:.2e}")
    _expect(all(bool(torch.isfinite(v).all()) for v in solution.values()), "solutions must be finite")


DISTRIBUTION_CHECKS: tuple[Callable[[str], None], ...] = (
    check_examples_do_not_depend_on_company,
    check_splits_differ,
    check_solution_solves_the_pde,
)

# Metrics and protocols -------------------------------------------------------------------------------------------


def check_truth_scores_zero(metric: Metric) -> None:
    """The truth itself scores zero, and one number comes back per example."""
    if metric.needs_system:
        return
    data = _plain_examples()
    inputs, target = data.batch(range(4))
    values = metric.per_sample(data.problem, inputs, target, target, None)
    _expect(tuple(values.shape) == (4,), f"per_sample must return (4,), got {tuple(values.shape)}")
    _expect(float(values.abs().max()) == 0.0, f"the truth must score 0, got {values.tolist()}")


def check_nan_stays_nan(metric: Metric) -> None:
    """A prediction that is not finite makes the summary NaN instead of being left out."""
    if metric.needs_system:
        return
    data = _plain_examples()
    inputs, target = data.batch(range(4))
    broken = {name: value.clone() for name, value in target.items()}
    for value in broken.values():
        value[2, 0, 0] = float("nan")
    values = metric.per_sample(data.problem, inputs, broken, target, None).double().cpu().numpy()
    _expect(bool(np.isnan(float(metric.summarise(values)))), "a prediction with NaN must give a NaN summary")


def check_worse_scores_higher(metric: Metric) -> None:
    """Twice the error scores higher."""
    if metric.needs_system:
        return
    data = _plain_examples()
    inputs, target = data.batch(range(4))
    scores = []
    for factor in (1.1, 1.2):
        worse = {name: value * factor for name, value in target.items()}
        values = metric.per_sample(data.problem, inputs, worse, target, None).double().cpu().numpy()
        scores.append(float(metric.summarise(values)))
    _expect(scores[0] < scores[1], f"twice the error must score higher, got {scores}")


METRIC_CHECKS: tuple[Callable[[Metric], None], ...] = (
    check_truth_scores_zero,
    check_nan_stays_nan,
    check_worse_scores_higher,
)


def check_sizes_are_counts(protocol: TransferProtocol) -> None:
    """Sizes are distinct, increasing counts: zero or sizes of the suite."""
    sizes = list(protocol.sizes([8, 32]))
    _expect(len(sizes) > 0, "sizes must name at least one number of examples")
    _expect(sizes == sorted(set(sizes)) and min(sizes) >= 0, f"sizes must increase from 0 up, got {sizes}")


def check_start_is_known(protocol: TransferProtocol) -> None:
    """It starts from the pre-trained or from an initialised model."""
    _expect(protocol.starts_from in ("pretrained", "initialised"), f"starts_from is {protocol.starts_from!r}")


PROTOCOL_CHECKS: tuple[Callable[[TransferProtocol], None], ...] = (check_sizes_are_counts, check_start_is_known)


# Helpers ---------------------------------------------------------------------------------------------------------


def _parametrised(
    checks: Callable[[], Iterator[tuple[str, Check]]], functions: Sequence[Any]
) -> Callable[[Callable[..., Any]], Any]:
    """A pytest decorator with one case a check; the subject is looked up when a case runs, not at collection."""
    import pytest

    def case(number: int) -> Check:
        return lambda: list(checks())[number][1]()

    names = [function.__name__.removeprefix("check_") for function in functions]
    decorate: Callable[[Callable[..., Any]], Any] = pytest.mark.parametrize(
        "check", [pytest.param(case(i), id=name) for i, name in enumerate(names)]
    )
    return decorate


def _open(reference: str, count: int, split: Any = "test") -> Any:
    from pdebench_fm.api import open_distribution

    return open_distribution(reference, split=split, count=count, grid=32, device="cpu")


def _plain_examples() -> SmoothExamples:
    inputs = (Channel("source"), Channel("k11", "constant"))
    return SmoothExamples(Problem(inputs, (Channel("solution"),), Grid(16)), 4)


def _predict(model: OperatorModel, data: Examples, ids: Ids) -> Fields:
    return model.predict(data.problem, data.batch(ids)[0])


def _stop(progress: Progress) -> None:
    raise KeyboardInterrupt


def _smooth(values: Tensor, cutoff: int) -> Tensor:
    """Keep wavenumbers up to ``cutoff``."""
    import torch

    size = values.shape[-1]
    ky, kx = torch.fft.fftfreq(size, 1 / size).abs(), torch.fft.rfftfreq(size, 1 / size)
    keep = (ky[:, None] <= cutoff) & (kx[None, :] <= cutoff)
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(values) * keep, s=(size, size))
    return smooth


def _expect(holds: bool, text: str) -> None:
    if not holds:
        raise ConformanceError(text)


def _expect_close(first: Fields, second: Fields, text: str) -> None:
    for name, value in first.items():
        scale = max(float(value.detach().abs().max()), 1e-12)
        gap = float((value - second[name]).detach().abs().max()) / scale
        _expect(gap <= _TOLERANCE, f"{text}: {name} differs by {gap:.1e} of its largest value")
