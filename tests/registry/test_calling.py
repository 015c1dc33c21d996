"""What somebody else's code does wrong: metrics, models and protocols of other packages."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pdefm_transfer.protocols import FineTune

from pdebench_fm.errors import PluginError
from pdebench_fm.hookspecs import MetricEntry
from pdebench_fm.interfaces import FitContext, FitReport, Progress
from pdebench_fm.plan.job import Job
from pdebench_fm.plan.sets import expected_rows
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.runner import RunResult, Silent
from tests.support.installed import with_toy
from tests.support.toy import Toy, plan_of, run_in


@pytest.fixture
def registry() -> Registry:
    return with_toy()


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_a_metric_of_somebody_elses_does_not_decide_what_becomes_of_a_point(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    from pdefm_metrics.errors import RelativeL2

    class Odd(RelativeL2):
        def summarise(self, values):  # type: ignore[no-untyped-def]
            return 0 * values.sum(axis=-1) + value

    monkeypatch.setitem(registry._entries["metrics"], "odd", MetricEntry("odd", "1", Odd, ""))
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry, "zero"))
    scored = [record for record in result.records if record.status != "unsupported"]
    assert {record.status for record in scored} == {"ok"}
    assert all("odd" not in record.metrics for record in scored)
    assert all(record.notes["metric odd"].startswith("left out: its value is") for record in scored)


def test_a_metric_that_raises_is_left_out_and_named(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_metrics.errors import RelativeL2

    class Broken(RelativeL2):
        def per_sample(self, *arguments):  # type: ignore[no-untyped-def]
            raise ValueError("not today")

    monkeypatch.setitem(registry._entries["metrics"], "broken", MetricEntry("broken", "1", Broken, ""))
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert {record.status for record in result.records} == {"ok"}
    assert {record.notes["metric broken"] for record in result.records} == {"left out: ValueError: not today"}


@pytest.mark.parametrize(
    ("method", "value", "note"),
    [
        ("summarise", lambda *_: 1 / 0, "left out: ZeroDivisionError: division by zero"),
        (
            "summarise",
            lambda _, values: values.mean(axis=-1) if values.ndim == 1 else values[:, 0] * math.nan,
            "interval",
        ),
        ("per_sample", lambda *_: torch.tensor(1.0), "left out: RunError: per_sample must return (batch,), got ()"),
    ],
)
def test_nothing_that_another_metric_does_costs_a_point(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, method: str, value: object, note: str
) -> None:
    from pdefm_metrics.errors import RelativeL2

    odd = type("Odd", (RelativeL2,), {method: value})
    monkeypatch.setitem(registry._entries["metrics"], "odd", MetricEntry("odd", "1", odd, ""))
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry, "zero"))
    scored = [record for record in result.records if record.status != "unsupported"]
    assert {record.status for record in scored} == {"ok"}
    assert all(note in record.notes["metric odd"] for record in scored)


def test_a_metric_that_cannot_be_loaded_is_left_out_until_it_can(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entered(factory: str) -> RunResult:
        entry = MetricEntry("lately", "1", factory, "")
        monkeypatch.setitem(registry._entries["metrics"], "lately", entry)
        monkeypatch.setitem(registry._owners, ("metrics", "lately"), "somebody")
        return run_in(tmp_path / "runs", plan_of(tmp_path, registry))

    without = entered("no_such_module:Metric")
    assert {record.status for record in without.records} == {"ok"}
    (note,) = {record.notes["metric lately"] for record in without.records}
    assert note.startswith("left out: metric 'lately' of plugin somebody: ModuleNotFoundError")
    mended = entered("pdefm_metrics.errors:MaxError")
    assert all(record.metrics["lately"] == record.metrics["max_error"] for record in mended.records)
    assert entered("no_such_module:Metric").records == mended.records  # a score is not lost where it cannot be made now


def test_without_the_main_score_nothing_is_done(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = MetricEntry("relative_l2", "1", "no_such_module:Metric", "")
    monkeypatch.setitem(registry._entries["metrics"], "relative_l2", entry)
    with pytest.raises(PluginError, match="relative_l2"):
        run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("left", "says"),
    [
        (lambda: FitReport("converged"), "ValueError: the status of a fit is 'ok' or 'diverged', got 'converged'"),  # type: ignore[arg-type]
        (lambda: FitReport(epochs=-1), "ValueError: epochs of a fit must be a whole number of at least 0, got -1"),
        (lambda: FitReport(train_seconds=math.nan), "ValueError: train_seconds of a fit must be at least 0"),
        (lambda: sys.exit("no licence"), "SystemExit: no licence"),
        (lambda: None, "TypeError: fit must return a FitReport, got nothing"),  # type: ignore[arg-type, return-value]
    ],
)
def test_what_no_record_could_take_fails_the_job_and_says_why(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, left: Callable[[], FitReport], says: str
) -> None:
    monkeypatch.setattr(Toy, "fit", lambda *_: left())
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    (first, *_) = result.records
    assert first.status == "failed"
    assert f"2 of 2 trials failed: pre-training poisson · learning_rate=0.001: {says}" in first.reason
    assert all(trial.reason.startswith(says) for trial in first.trials)


def test_notes_are_made_fit_for_a_record(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "notes", lambda _: {"upsampling": 2, "made\nby": "us\nall", "": "x", "n" * 300: "y"})
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert result.complete
    wanted = {"upsampling": "2", "made by": "us all", "note": "x", "n" * 199 + "…": "y"}
    assert all(record.notes == wanted for record in result.records)


@pytest.mark.parametrize("said", [12.5, 2**53 + 1])
def test_parameters_that_no_record_could_take_fail_the_job(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, said: float
) -> None:
    monkeypatch.setattr(Toy, "parameters", said)
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert {record.status for record in result.records} == {"failed"}
    assert f"parameters must be a whole number from 0 to 2**53, got {said}" in result.records[0].reason


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("supports", lambda *_: 1 / 0, "model 'toy': supports: ZeroDivisionError: division by zero"),
        ("supports", lambda *_: "", "model 'toy': supports must return None or the reason as a text, got ''"),
        (
            "search_space",
            lambda *_: [{"optimizer": "adam"}],
            "search_space must return at least one mapping, of names to fin",
        ),
        ("search_space", lambda *_: [{"a\tb": 1.0}], "printable names of 1 to 200 characters and whole numb"),
        ("search_space", lambda *_: [{"": 1.0}], "printable names of 1 to 200 characters and whole numbers u"),
        ("search_space", lambda *_: [{"width": 2**53 + 1}], r"and whole numbers up to 2\*\*53, got 'width': 9007199"),
        ("search_space", lambda *_: None, "model 'toy': search_space: TypeError: "),
        ("search_space", lambda *_: [{"learning_rate": 0.0}], "a learning_rate must be above 0, got 0.0"),
        ("search_space", lambda *_: [], r"search_space must return at least one mapping, .*, got \[\]"),
        ("search_space", lambda *_: ({"rate": 1 / n} for n in (1, 0)), "model 'toy': search_space: ZeroDivisionError"),
        ("__init__", lambda *_, **__: 1 / 0, "model 'toy' of plugin .*: ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_model_does_wrong_while_a_run_is_planned_is_one_line(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, name: str, value: object, says: str
) -> None:
    monkeypatch.setattr(Toy, name, value)
    with pytest.raises(PluginError, match=says):
        plan_of(tmp_path, registry)


def test_what_a_protocol_does_wrong_is_one_line_for_a_run_and_for_what_its_records_are_held_to(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, registry)
    monkeypatch.setattr(FineTune, "sizes", lambda *_: 1 / 0)
    says = "^protocol 'fine-tune': sizes: ZeroDivisionError: division by zero$"
    with pytest.raises(PluginError, match=says):
        plan_of(tmp_path, registry)
    with pytest.raises(PluginError, match=says):
        list(expected_rows(plan.suite, plan.profile_name, registry))


def test_a_protocol_whose_adapt_returns_nothing_fails_its_points_and_is_named(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FineTune, "adapt", lambda *_: None)
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    failed = [record for record in result.records if record.status != "ok"]
    assert {record.protocol for record in failed} == {"fine-tune"}
    assert "TypeError: adapt of protocol 'fine-tune' must return a FitReport, got nothing" in failed[0].reason


@pytest.mark.parametrize(
    ("reported", "says"),
    [
        (0.3, "AttributeError: 'float' object has no attribute 'best'"),
        (Progress(1, None), "TypeError: int() argument"),  # type: ignore[arg-type]
        (Progress(1, 2, best=torch.ones(3)), "Error: "),  # which one, torch decides  # type: ignore[arg-type]
    ],
)
def test_progress_that_says_nothing_fails_the_job_of_who_reports_it(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, reported: Progress, says: str
) -> None:
    def fit(
        model: Toy, train: object, validation: object, budget: object, trial: object, context: FitContext
    ) -> object:
        context.progress(reported)
        return FitReport()

    monkeypatch.setattr(Toy, "fit", fit)
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert result.records[0].status == "failed"
    assert all(says in trial.reason for trial in result.records[0].trials)


def test_progress_is_heard_as_plain_numbers(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(
        model: Toy, train: object, validation: object, budget: object, trial: object, context: FitContext
    ) -> object:
        context.progress(Progress(np.int64(1), 2, best=2 * torch.ones((), requires_grad=True)))  # type: ignore[arg-type]
        return FitReport()

    heard: list[Progress] = []

    class Hears(Silent):
        def progressed(self, job: Job, progress: Progress) -> None:
            heard.append(progress)

    monkeypatch.setattr(Toy, "fit", fit)
    run_in(tmp_path / "runs", plan_of(tmp_path, registry), reporter=Hears())
    assert heard[0] == Progress(1, 2, "epoch", 2.0)
    assert [type(value) for value in vars(heard[0]).values()] == [int, int, str, float]


def test_a_model_may_be_registered_by_a_function_that_makes_it(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_in(tmp_path / "by_class", plan_of(tmp_path, registry))
    entry = registry.get("models", "toy")
    monkeypatch.setitem(registry._entries["models"], "toy", replace(entry, factory=_made))
    result = run_in(tmp_path / "by_function", plan_of(tmp_path, registry))
    assert result.complete
    assert [r.metrics for r in result.records] == [r.metrics for r in expected.records]


def _made() -> Toy:
    return Toy()
