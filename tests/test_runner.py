from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pdefm_transfer.protocols import FineTune

from pdebench_fm import records
from pdebench_fm.errors import PluginError
from pdebench_fm.execution import InProcessExecutor, ProcessExecutor
from pdebench_fm.hookspecs import MetricEntry
from pdebench_fm.interfaces import FitReport, Progress
from pdebench_fm.interfaces.executor import Report
from pdebench_fm.jobs import Job, Plan
from pdebench_fm.plan import expected_rows, make_plan, model_spec
from pdebench_fm.plugins import Registry
from pdebench_fm.runner import RunResult, Silent, run_plan
from pdebench_fm.suite import load_suite
from pdebench_fm.work import Outcome
from tests.support.installed import with_toy
from tests.support.toy import Toy, toy_suite


@pytest.fixture
def registry() -> Registry:
    return with_toy()


def plan_of(folder: Path, registry: Registry, model: str = "toy", **options: object) -> Plan:
    suite = load_suite(toy_suite(folder), registry)
    return make_plan(suite, "tiny", model_spec(registry, model), registry, **options)  # type: ignore[arg-type]


class Counting(Silent):
    """Counts the jobs that were really done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def finished(self, job: Job, outcome: Outcome) -> None:
        if not outcome.reused:
            self.done.append(job.id)


def scores(result: RunResult) -> list[tuple[str, str, int, int, float]]:
    return [(r.task, r.protocol, r.examples, r.seed, r.metrics["relative_l2"]) for r in result.records]


def test_every_row_gets_a_record_that_can_be_read_back(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of(tmp_path, registry)
    result = run_plan(plan, registry, tmp_path / "runs")
    assert result.complete
    assert len(result.records) == len(plan.rows) == 2 + 2 * (1 + 2 + 3)
    assert result.folder == tmp_path / "runs" / "toy" / "toy"
    assert {r.key: r for r in records.read(result.folder / "records.jsonl")} == {r.key: r for r in result.records}
    fine_tuned = next(r for r in result.records if r.protocol == "fine-tune")
    assert fine_tuned.pretrain_job_id == next(r for r in result.records if r.task == "poisson").job_id
    assert fine_tuned.learning_rate in (1e-4, 1e-3)
    assert len(fine_tuned.trials) == 2
    assert (
        fine_tuned.interval["relative_l2"][0]
        <= fine_tuned.metrics["relative_l2"]
        <= fine_tuned.interval["relative_l2"][1]
    )


def test_the_chosen_trial_is_the_best_on_validation(tmp_path: Path, registry: Registry) -> None:
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    for record in result.records:
        if record.trials:
            best = min(record.trials, key=lambda trial: trial.validation or 0)
            assert record.learning_rate == best.hyperparameters["learning_rate"]


def test_the_same_run_again_does_and_writes_nothing(tmp_path: Path, registry: Registry) -> None:
    first = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    text = (first.folder / "records.jsonl").read_text()
    counting = Counting()
    second = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs", reporter=counting)
    assert counting.done == []
    assert not second.changed
    assert second.records == first.records
    assert (first.folder / "records.jsonl").read_text() == text


def test_a_run_that_was_stopped_continues(tmp_path: Path, registry: Registry) -> None:
    class Stops(Counting):
        def finished(self, job: Job, outcome: Outcome) -> None:
            super().finished(job, outcome)
            if len(self.done) == 7:
                raise KeyboardInterrupt

    stopped, rest = Stops(), Counting()
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs", reporter=stopped)
    plan = plan_of(tmp_path, registry)
    result = run_plan(plan, registry, tmp_path / "runs", reporter=rest)
    assert result.complete
    assert sorted([*stopped.done, *rest.done]) == sorted(plan.jobs)
    undisturbed = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "other")
    assert scores(result) == scores(undisturbed)


@pytest.mark.parametrize("workers", [1, 2])
def test_executors_give_the_same_scores_and_respect_parents(tmp_path: Path, registry: Registry, workers: int) -> None:
    plan = plan_of(tmp_path, registry)
    executor = InProcessExecutor() if workers == 1 else ProcessExecutor(workers)  # type: ignore[var-annotated]
    finished: list[str] = []

    class Order(Silent):
        def finished(self, job: Job, outcome: Outcome) -> None:
            assert all(parent in finished for parent in job.parents)
            finished.append(job.id)

    result = run_plan(plan, registry, tmp_path / "runs", executor=executor, reporter=Order())
    assert len(finished) == len(plan.jobs)
    reference = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "other")
    for mine, theirs in zip(scores(result), scores(reference), strict=True):
        assert mine[:4] == theirs[:4]
        assert mine[4] == pytest.approx(theirs[4], rel=1e-3)


def test_workers_are_dealt_the_gpus_in_turn_and_see_no_other(tmp_path: Path, registry: Registry) -> None:
    jobs = [replace(job, parents=()) for job in plan_of(tmp_path, registry).jobs.values()][:3]
    executor: ProcessExecutor[Job, str | None] = ProcessExecutor(3, gpus=["4", "GPU-f00"])  # one job a worker
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = [outcome for _, outcome in executor.run(jobs, _gpu_of, lambda job, progress: None)]
    assert sorted(map(str, seen)) == ["4", "4", "GPU-f00"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def _gpu_of(job: Job, report: Report) -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_progress_reaches_the_reporter(tmp_path: Path, registry: Registry) -> None:
    heard: list[Progress] = []

    class Hears(Silent):
        def progressed(self, job: Job, progress: Progress) -> None:
            heard.append(progress)

    plan = plan_of(tmp_path, registry)
    run_plan(plan, registry, tmp_path / "runs", reporter=Hears())
    assert len(heard) == 2 * sum(job.kind == "trial" for job in plan.jobs.values())


def test_a_failed_job_is_tried_again_and_its_point_says_so(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_transfer.protocols import FineTune

    original = FineTune.adapt

    def fails(self, model, train, *rest):  # type: ignore[no-untyped-def]
        if len(train) == 8:
            raise OSError("disk\nfull")
        return original(self, model, train, *rest)

    monkeypatch.setattr(FineTune, "adapt", fails)
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    failed = [r for r in result.records if r.status == "failed"]
    assert [(r.protocol, r.examples) for r in failed] == [("fine-tune", 8)] * 2
    assert "trials failed" in failed[0].reason
    assert not result.complete
    logs = list((tmp_path / "runs" / "jobs").glob("*/failure.log"))
    assert any("disk" in log.read_text() for log in logs)
    monkeypatch.undo()
    again = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    assert again.complete
    assert all(r.status == "ok" for r in records.read(again.folder / "records.jsonl"))
    assert not list((tmp_path / "runs" / "jobs").glob("*/failure.log"))


def test_what_diverges_is_recorded_as_such_and_not_tried_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_transfer.protocols import Scratch

    from pdebench_fm.interfaces import FitReport

    monkeypatch.setattr(Scratch, "adapt", lambda *_: FitReport("diverged", "training loss nan at step 3"))
    first = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    diverged = [r for r in first.records if r.status == "diverged"]
    assert [(r.protocol, r.examples) for r in diverged] == [("scratch", 4), ("scratch", 8)] * 2
    assert all("training loss nan at step 3" in r.reason and r.metrics == {} for r in diverged)
    assert all(trial.status == "diverged" for r in diverged for trial in r.trials)
    counting = Counting()
    run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs", reporter=counting)
    assert counting.done == []


def test_a_model_that_cannot_be_tuned_further_has_unsupported_rows(tmp_path: Path, registry: Registry) -> None:
    result = run_plan(plan_of(tmp_path, registry, "zero"), registry, tmp_path / "runs")
    found = {(r.protocol, r.status) for r in result.records}
    assert found == {("zero-shot", "ok"), ("fine-tune", "unsupported"), ("scratch", "ok")}
    assert all(r.metrics["relative_l2"] == pytest.approx(1.0) for r in result.records if r.status == "ok")
    assert result.complete


def capped_plan(folder: Path, registry: Registry, validation: str) -> Plan:
    """The toy suite with ``validation`` inside fine_tuning; it has 8 validation examples."""
    path = toy_suite(folder)
    text = path.read_text()
    assert text.count("fine_tuning: {") == 1
    path.write_text(text.replace("fine_tuning: {", f"fine_tuning: {{{validation}"))
    return make_plan(load_suite(path, registry), "tiny", model_spec(registry, "toy"), registry)


def test_a_suite_may_cap_the_validation_examples_of_every_downstream_arm(tmp_path: Path, registry: Registry) -> None:
    plan = capped_plan(tmp_path, registry, "validation: 3, ")
    counts = {
        (job.description["protocol"]["name"], *(part["count"] for part in job.description["validation"]["sets"]))
        for job in plan.jobs.values()
        if job.kind == "trial"
    }
    assert counts == {("pretraining", 8), ("pretraining", 8, 8), ("fine-tune", 3), ("scratch", 3)}
    result = run_plan(plan, registry, tmp_path / "runs")
    found = {(r.protocol, r.task, r.examples > 0, r.validation_examples) for r in result.records}
    assert found == {
        ("pretraining", "poisson", True, 8),
        ("pretraining", "mixed", True, 16),
        *(("zero-shot", task, False, 0) for task in ("B from poisson", "C from mixed")),
        *(("fine-tune", task, True, 3) for task in ("B from poisson", "C from mixed")),
        *(("scratch", task, True, 3) for task in ("B from poisson", "C from mixed")),
        *(("scratch", task, False, 0) for task in ("B from poisson", "C from mixed")),
    }


def test_a_cap_that_caps_nothing_leaves_every_job_what_it_was(tmp_path: Path, registry: Registry) -> None:
    free, whole, capped = (
        set(capped_plan(tmp_path, registry, text).jobs) for text in ("", "validation: 8, ", "validation: 7, ")
    )
    assert whole == free
    pretraining = {row.job.id for row in capped_plan(tmp_path, registry, "").rows if row.kind == "pretraining"}
    assert pretraining <= capped  # pre-training is chosen on all of them
    assert len(capped & free) < len(free)


def test_an_unsupported_row_was_chosen_by_no_validation_example(tmp_path: Path, registry: Registry) -> None:
    result = run_plan(plan_of(tmp_path, registry, "zero"), registry, tmp_path / "runs")
    assert {r.validation_examples for r in result.records if r.status == "unsupported"} == {0}


def test_a_new_metric_is_computed_without_training(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    wider = with_toy()
    entry = wider.get("metrics", "max_error")
    monkeypatch.setitem(wider._entries["metrics"], "another", type(entry)("another", "1", entry.factory, ""))
    counting = Counting()
    plan = plan_of(tmp_path, wider)
    result = run_plan(plan, wider, tmp_path / "runs", reporter=counting)
    assert all(record.metrics["another"] == record.metrics["max_error"] for record in result.records)
    assert all(plan.jobs[id].kind == "point" for id in counting.done)


def test_a_score_that_cannot_be_made_anew_says_which_version_of_a_metric_made_it(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    for weights in (tmp_path / "runs" / "jobs").glob("*/model"):
        shutil.rmtree(weights)
    newer = with_toy()
    entry = newer.get("metrics", "max_error")
    monkeypatch.setitem(newer._entries["metrics"], "max_error", replace(entry, version="2"))
    result = run_plan(plan_of(tmp_path, newer), newer, tmp_path / "runs")
    assert {r.versions["metric max_error"] for r in result.records if r.trials} == {entry.version}


def test_only_the_chosen_trials_keep_their_weights(tmp_path: Path, registry: Registry) -> None:
    plan = plan_of(tmp_path, registry)
    run_plan(plan, registry, tmp_path / "runs")
    kept = {path.parent.name for path in (tmp_path / "runs" / "jobs").glob("*/model")}
    chosen = {
        json.loads((tmp_path / "runs" / "jobs" / job.id / "result.json").read_text())["chosen"]
        for job in plan.jobs.values()
        if job.kind == "point"
    }
    assert kept == chosen - {None}


@pytest.mark.parametrize("damaged", [False, True], ids=["cleared away", "damaged"])
def test_weights_that_are_not_there_any_more_are_fitted_again(
    tmp_path: Path, registry: Registry, damaged: bool
) -> None:
    plan = plan_of(tmp_path, registry)
    first = run_plan(plan, registry, tmp_path / "runs")
    jobs = tmp_path / "runs" / "jobs"
    pretraining = next(row.job for row in plan.rows if row.kind == "pretraining")
    chosen = json.loads((jobs / pretraining.id / "result.json").read_text())["chosen"]
    if damaged:
        file = jobs / chosen / "model" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    else:
        shutil.rmtree(jobs / chosen / "model")  # as a point of another suite does that chooses another trial
    fine_tuned = next(row.job for row in plan.rows if row.protocol == "fine-tune")
    for id in (fine_tuned.id, *fine_tuned.description["trials"]):
        (jobs / id / "result.json").unlink()
    again = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    assert again.complete
    assert scores(again) == scores(first)


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_a_metric_of_somebody_elses_does_not_decide_what_becomes_of_a_point(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    from pdefm_metrics.errors import RelativeL2

    class Odd(RelativeL2):
        def summarise(self, values):  # type: ignore[no-untyped-def]
            return 0 * values.sum(axis=-1) + value

    monkeypatch.setitem(registry._entries["metrics"], "odd", MetricEntry("odd", "1", Odd, ""))
    result = run_plan(plan_of(tmp_path, registry, "zero"), registry, tmp_path / "runs")
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
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
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
    result = run_plan(plan_of(tmp_path, registry, "zero"), registry, tmp_path / "runs")
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
        return run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")

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
        run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
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
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    (first, *_) = result.records
    assert first.status == "failed"
    assert f"2 of 2 trials failed: pre-training poisson · learning_rate=0.001: {says}" in first.reason
    assert all(trial.reason.startswith(says) for trial in first.trials)


def test_notes_are_made_fit_for_a_record(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "notes", lambda _: {"upsampling": 2, "made\nby": "us\nall", "": "x", "n" * 300: "y"})
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    assert result.complete
    wanted = {"upsampling": "2", "made by": "us all", "note": "x", "n" * 199 + "…": "y"}
    assert all(record.notes == wanted for record in result.records)


def test_parameters_that_are_no_number_fail_the_job(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "parameters", 12.5)
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    assert {record.status for record in result.records} == {"failed"}
    assert "parameters must be a whole number of at least 0, got 12.5" in result.records[0].reason


def test_what_listens_to_progress_ends_the_run_and_not_a_job(tmp_path: Path, registry: Registry) -> None:
    class Gone(Silent):
        def progressed(self, job: Job, progress: Progress) -> None:
            raise SystemExit(1)  # as rich does where the reader has gone

    with pytest.raises(SystemExit):
        run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs", reporter=Gone())
    assert not list((tmp_path / "runs").rglob("failure.log"))
    assert not list((tmp_path / "runs").rglob("records.jsonl"))


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
        ("search_space", lambda *_: None, "model 'toy': search_space: TypeError: "),
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
    result = run_plan(plan_of(tmp_path, registry), registry, tmp_path / "runs")
    failed = [record for record in result.records if record.status != "ok"]
    assert {record.protocol for record in failed} == {"fine-tune"}
    assert "TypeError: adapt of protocol 'fine-tune' must return a FitReport, got nothing" in failed[0].reason


def test_the_newest_run_is_what_the_file_shows_even_where_it_only_reused_jobs(
    tmp_path: Path, registry: Registry
) -> None:
    suite = load_suite(toy_suite(tmp_path), registry)

    def run(width: int) -> RunResult:
        plan = make_plan(suite, "tiny", model_spec(registry, "toy", {"width": width}), registry)
        return run_plan(plan, registry, tmp_path / "runs")

    first, _, third = run(4), run(2), run(4)
    assert third.records == first.records
    shown = {record.place: record for record in records.read(third.folder / "records.jsonl")}
    assert sorted(shown.values(), key=lambda r: r.job_id) == sorted(third.records, key=lambda r: r.job_id)
