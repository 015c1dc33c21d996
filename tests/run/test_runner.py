from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pdefm_transfer.protocols import FineTune

from pdebench_fm.errors import DataFileError
from pdebench_fm.interfaces import FitReport, Progress
from pdebench_fm.plan.job import Job, Trial
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry.discovery import Plugin, Registry
from pdebench_fm.run.runner import Reporter, RunResult
from pdebench_fm.run.work import Outcome
from pdebench_fm.suite.reading import load_suite
from tests.support.command import PATIENCE
from tests.support.installed import with_toy
from tests.support.records import append, make_record, read
from tests.support.toy import Toy, plan_of, run_in, toy_suite

Finished = Callable[[Path], RunResult]


@pytest.fixture
def registry() -> Registry:
    return with_toy()


class Counting(Reporter):
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
    result = run_in(tmp_path / "runs", plan)
    assert result.complete
    assert len(result.records) == len(plan.rows) == 2 + 2 * (1 + 2 + 3)
    assert result.folder == tmp_path / "runs" / "toy" / "toy"
    assert {r.key: r for r in read(result.folder / "records.jsonl")} == {r.key: r for r in result.records}
    fine_tuned = next(r for r in result.records if r.protocol == "fine-tune")
    assert fine_tuned.pretrain_job_id == next(r for r in result.records if r.task == "poisson").job_id
    assert fine_tuned.learning_rate in (1e-4, 1e-3)
    assert len(fine_tuned.trials) == 2
    assert (
        fine_tuned.interval["relative_l2"][0]
        <= fine_tuned.metrics["relative_l2"]
        <= fine_tuned.interval["relative_l2"][1]
    )


def test_records_list_the_plugins_that_were_loaded_for_the_fit_and_for_the_score(tmp_path: Path) -> None:
    def with_plugin(version: str, **more: str) -> Registry:
        found = with_toy()
        found.plugins = [Plugin(name, name, f"{name}-package {v}") for name, v in {"one": version, **more}.items()]
        return found

    first = run_in(tmp_path / "runs", plan_of(tmp_path, with_plugin("1.0", broken="3.0")))
    assert all(
        r.versions["plugin one"] == "one-package 1.0" and r.versions["plugin broken"] == "broken-package 3.0"
        for r in first.records
    )
    plan = plan_of(tmp_path, with_plugin("2.0"))
    for row in plan.rows:
        (tmp_path / "runs" / "jobs" / row.job.id / "result.json").unlink()
    for record in run_in(tmp_path / "runs", plan).records:
        assert record.versions["plugin one"] == "one-package 2.0"
        assert ("plugin broken" in record.versions) == bool(record.trials)
    assert not run_in(tmp_path / "runs", plan_of(tmp_path, with_plugin("3.0"))).changed


def test_the_chosen_trial_is_the_best_on_validation(tmp_path: Path, finished_run: Finished) -> None:
    for record in finished_run(tmp_path / "runs").records:
        if record.trials:
            best = min(record.trials, key=lambda trial: trial.validation or 0)
            assert record.learning_rate == best.hyperparameters["learning_rate"]


def test_the_same_run_again_does_and_writes_nothing(tmp_path: Path, registry: Registry, finished_run: Finished) -> None:
    first = finished_run(tmp_path / "runs")
    text = (first.folder / "records.jsonl").read_text()
    counting = Counting()
    second = run_in(tmp_path / "runs", plan_of(tmp_path, registry), reporter=counting)
    assert counting.done == []
    assert not second.changed
    assert second.records == first.records
    assert (first.folder / "records.jsonl").read_text() == text


def test_records_of_other_profiles_are_returned_beside_those_of_the_plan(
    tmp_path: Path, registry: Registry, finished_run: Finished
) -> None:
    output = tmp_path / "runs"
    first = finished_run(output)
    other = make_record("toy", profile="lite", suite="toy")
    append(first.folder / "records.jsonl", [make_record("toy", profile="lite", suite="toy", error=0.2), other])
    second = run_in(output, plan_of(tmp_path, registry))
    assert (list(first.others), list(second.others)) == ([], [other])
    assert second.records == first.records


def test_a_corrected_label_is_written_and_what_was_measured_stays(
    tmp_path: Path, registry: Registry, finished_run: Finished
) -> None:
    first = finished_run(tmp_path / "runs")
    path = toy_suite(tmp_path)
    text = (
        path.read_text().replace("shift: med", "shift: large").replace("grid: 16", "grid: 16\n    under_trained: true")
    )
    path.write_text(text)
    counting = Counting()
    corrected = make_plan(load_suite(path, registry), "tiny", model_spec(registry, "toy"), registry)
    second = run_in(tmp_path / "runs", corrected, reporter=counting)
    assert (counting.done, second.changed) == ([], True)
    kept = {r.place: r for r in read(second.folder / "records.jsonl")}
    for before, after in zip(first.records, second.records, strict=True):
        assert after == kept[after.place]
        assert after.shift == before.shift.replace("med", "large")
        assert after.under_trained
        assert after == before.model_copy(update={"shift": after.shift, "under_trained": True})
    assert not run_in(tmp_path / "runs", corrected).changed


def test_a_run_that_was_stopped_continues(tmp_path: Path, registry: Registry, finished_run: Finished) -> None:
    class Stops(Counting):
        def finished(self, job: Job, outcome: Outcome) -> None:
            super().finished(job, outcome)
            if len(self.done) == 7:
                raise KeyboardInterrupt

    stopped, rest = Stops(), Counting()
    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path / "runs", plan_of(tmp_path, registry), reporter=stopped)
    plan = plan_of(tmp_path, registry)
    result = run_in(tmp_path / "runs", plan, reporter=rest)
    assert result.complete
    assert sorted([*stopped.done, *rest.done]) == sorted(plan.jobs)
    assert scores(result) == scores(finished_run(tmp_path / "undisturbed"))


def test_progress_reaches_the_reporter(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()

    class Hears(Reporter):
        def progressed(self, job: Job, progress: Progress) -> None:
            heard.set()

    fit = Toy.fit

    def waits(self: Toy, *arguments: Any) -> FitReport:
        heard.wait(PATIENCE)
        return fit(self, *arguments)

    monkeypatch.setattr(Toy, "fit", waits)
    run_in(tmp_path / "runs", plan_of(tmp_path, registry), reporter=Hears())
    assert heard.is_set()


def test_a_search_goes_on_until_it_is_closed_or_has_used_up_its_extension(tmp_path: Path, registry: Registry) -> None:
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry, extend=2))
    assert result.complete
    searched = [record for record in result.records if record.trials]
    assert all(record.search == "closed" or len(record.trials) == 4 for record in searched)
    added = [record for record in searched if len(record.trials) > 2]
    assert {"pretraining", "scratch"} <= {record.protocol for record in added}
    rates = [trial.hyperparameters["learning_rate"] for trial in added[0].trials]
    assert rates[:3] in ([1e-3, 1e-2, 1e-1], [1e-3, 1e-2, 1e-4])
    assert all(record.job["extend"] == 2 for record in searched)


def test_a_run_with_an_extended_search_continues(tmp_path: Path, registry: Registry) -> None:
    first = run_in(tmp_path / "runs", plan_of(tmp_path, registry, extend=2))
    again = run_in(tmp_path / "runs", plan_of(tmp_path, registry, extend=2))
    assert (again.records, again.changed) == (first.records, False)
    # The weights of a trial that the search added are fitted again if they are gone.
    jobs = tmp_path / "runs" / "jobs"
    shutil.rmtree(jobs / json.loads((jobs / first.records[0].job_id / "result.json").read_text())["chosen"] / "model")
    for record in first.records:
        if record.protocol == "zero-shot":
            (jobs / record.job_id / "result.json").unlink()
    assert scores(run_in(tmp_path / "runs", plan_of(tmp_path, registry, extend=2))) == scores(first)


def test_a_failed_job_is_tried_again_and_its_point_says_so(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:

    original = FineTune.adapt

    def fails(self, model, train, *rest):  # type: ignore[no-untyped-def]
        if len(train) == 8:
            raise OSError("disk\nfull")
        return original(self, model, train, *rest)

    monkeypatch.setattr(FineTune, "adapt", fails)
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    failed = [r for r in result.records if r.status == "failed"]
    assert [(r.protocol, r.examples) for r in failed] == [("fine-tune", 8)] * 2
    assert "trials failed" in failed[0].reason
    assert not result.complete
    logs = list((tmp_path / "runs" / "jobs").glob("*/failure.log"))
    assert any("disk" in log.read_text() for log in logs)
    monkeypatch.undo()
    again = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert again.complete
    assert all(r.status == "ok" for r in read(again.folder / "records.jsonl"))
    assert not list((tmp_path / "runs" / "jobs").glob("*/failure.log"))


def test_what_diverges_is_recorded_as_such_and_not_tried_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pdefm_transfer.protocols import Scratch

    monkeypatch.setattr(Scratch, "adapt", lambda *_: FitReport("diverged", "training loss nan at step 3"))
    first = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    diverged = [r for r in first.records if r.status == "diverged"]
    assert [(r.protocol, r.examples) for r in diverged] == [("scratch", 4), ("scratch", 8)] * 2
    assert all("training loss nan at step 3" in r.reason and r.metrics == {} for r in diverged)
    assert all(trial.status == "diverged" for r in diverged for trial in r.trials)
    counting = Counting()
    run_in(tmp_path / "runs", plan_of(tmp_path, registry), reporter=counting)
    assert counting.done == []


def test_a_model_that_cannot_be_tuned_further_has_unsupported_rows(tmp_path: Path, registry: Registry) -> None:
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry, "zero"))
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
        (job.arm, *(spec.count for spec in job.validation)) for job in plan.jobs.values() if isinstance(job, Trial)
    }
    assert counts == {("pretraining", 8), ("pretraining", 8, 8), ("fine-tune", 3), ("scratch", 3)}
    result = run_in(tmp_path / "runs", plan)
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
    result = run_in(tmp_path / "runs", plan_of(tmp_path, registry, "zero"))
    assert {r.validation_examples for r in result.records if r.status == "unsupported"} == {0}


def test_a_new_metric_is_computed_without_training(tmp_path: Path, finished_run: Finished) -> None:
    finished_run(tmp_path / "runs")
    entry = with_toy().get("metrics", "max_error")
    wider = with_toy().with_entry("metrics", replace(entry, name="another", version="1"))
    counting = Counting()
    plan = plan_of(tmp_path, wider)
    result = run_in(tmp_path / "runs", plan, reporter=counting)
    assert all(record.metrics["another"] == record.metrics["max_error"] for record in result.records)
    assert all(plan.jobs[id].kind == "point" for id in counting.done)


def test_a_score_that_cannot_be_made_anew_says_which_version_of_a_metric_made_it(
    tmp_path: Path, finished_run: Finished
) -> None:
    finished_run(tmp_path / "runs")
    for weights in (tmp_path / "runs" / "jobs").glob("*/model"):
        shutil.rmtree(weights)
    entry = with_toy().get("metrics", "max_error")
    newer = with_toy().with_entry("metrics", replace(entry, version="2"))
    result = run_in(tmp_path / "runs", plan_of(tmp_path, newer))
    old = [r for r in result.records if r.metrics and (r.protocol, r.examples) != ("scratch", 0)]  # needs no training
    assert {r.versions["metric max_error"] for r in old} == {entry.version}
    assert {r.protocol for r in old if not r.trials} == {"zero-shot"}
    assert not list((tmp_path / "runs" / "jobs").glob("*/model"))  # nothing was fitted for it


def test_only_the_chosen_trials_keep_their_weights(tmp_path: Path, registry: Registry, finished_run: Finished) -> None:
    plan = plan_of(tmp_path, registry)
    finished_run(tmp_path / "runs")
    kept = {path.parent.name for path in (tmp_path / "runs" / "jobs").glob("*/model")}
    chosen = {
        json.loads((tmp_path / "runs" / "jobs" / job.id / "result.json").read_text())["chosen"]
        for job in plan.jobs.values()
        if job.kind == "point"
    }
    assert kept == chosen - {None}


@pytest.mark.parametrize("damaged", ["", "DataFileError", "RuntimeError"])
def test_weights_that_are_not_there_any_more_are_fitted_again(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, finished_run: Finished, damaged: str
) -> None:
    load = Toy.load

    def raises_its_own(self: Toy, path: Path, device: str = "cpu") -> None:
        try:
            load(self, path, device)
        except DataFileError:
            raise RuntimeError("unexpected end of file") from None

    if damaged == "RuntimeError":
        monkeypatch.setattr(Toy, "load", raises_its_own)
    plan = plan_of(tmp_path, registry)
    first = finished_run(tmp_path / "runs")
    jobs = tmp_path / "runs" / "jobs"
    pretraining = next(row.job for row in plan.rows if row.kind == "pretraining")
    chosen = json.loads((jobs / pretraining.id / "result.json").read_text())["chosen"]
    if damaged:
        file = jobs / chosen / "model" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    else:
        shutil.rmtree(jobs / chosen / "model")  # as a point of another suite does that chooses another trial
    fine_tuned = next(row.job for row in plan.rows if row.protocol == "fine-tune")
    for id in (fine_tuned.id, *fine_tuned.trials):
        (jobs / id / "result.json").unlink()
    again = run_in(tmp_path / "runs", plan_of(tmp_path, registry))
    assert again.complete
    assert scores(again) == scores(first)


def test_the_newest_run_is_what_the_file_shows_even_where_it_only_reused_jobs(
    tmp_path: Path, registry: Registry
) -> None:
    suite = load_suite(toy_suite(tmp_path), registry)

    def run(width: int) -> RunResult:
        plan = make_plan(suite, "tiny", model_spec(registry, "toy", {"width": width}), registry)
        return run_in(tmp_path / "runs", plan)

    first, _, third = run(4), run(2), run(4)
    assert third.records == first.records
    shown = {record.place: record for record in read(third.folder / "records.jsonl")}
    assert sorted(shown.values(), key=lambda r: r.job_id) == sorted(third.records, key=lambda r: r.job_id)
