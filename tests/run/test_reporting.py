"""What a run shows while it goes on, and the time left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from torch import Tensor, nn

from pdebench_fm.interfaces import Progress as FitProgress
from pdebench_fm.plan.job import Job, Point, Trial
from pdebench_fm.plan.search import with_value
from pdebench_fm.problem import Problem
from pdebench_fm.run.prepare import prepare
from pdebench_fm.run.reporting import Remaining, RunProgress
from pdebench_fm.run.runner import Reporter, run_plan
from pdebench_fm.run.status import read_runs
from pdebench_fm.run.work import Outcome
from tests.support.command import write_suite
from tests.support.installed import with_toy
from tests.support.toy import Toy, ToyNetwork, plan_of, run_in


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_before_the_first_report_does_not_count() -> None:
    clock = Clock()
    left = Remaining({"a": 100, "b": 100}, clock)
    assert left.seconds() is None
    clock.now = 60  # workers start, examples are made
    left.reported("a", 1, 100)
    assert left.seconds() is None
    clock.now = 61
    left.reported("a", 2, 100)
    assert left.seconds() == pytest.approx(198)


def test_what_an_earlier_run_has_done_is_neither_left_nor_fast() -> None:
    clock = Clock()
    left = Remaining({"a": 100}, clock)
    left.reported("a", 51, 100)
    clock.now = 10
    left.reported("a", 61, 100)
    assert left.seconds() == pytest.approx(39)


def test_the_first_estimate_of_a_steady_fit_is_near_the_truth() -> None:
    clock = Clock()
    left = Remaining({"long": 6400, "late": 1600}, clock)
    clock.now = 40  # imports, examples
    left.reported("long", 3, 640)
    clock.now += 1  # ten steps of ten examples a second
    left.reported("long", 13, 640)
    assert left.seconds() == pytest.approx(7870 / 100, rel=0.01)
    clock.now += 1
    left.reported("long", 23, 640)
    left.reported("late", 5, 160)  # seen for the first time
    assert left.seconds() == pytest.approx((7770 - 50) / 100, rel=0.05)


class Slow(ToyNetwork):
    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if self.training:
            time.sleep(0.02)
        return super().forward(fields, constants)


class SlowToy(Toy):
    """Takes seconds for an epoch."""

    def build(self, problem: Problem) -> nn.Module:
        return Slow(len(problem.inputs), self.width, len(problem.outputs))


def test_progress_is_told_by_step_with_a_total_within_the_first_epoch(tmp_path: Path) -> None:
    told: list[FitProgress] = []

    class Listens(Reporter):
        def progressed(self, job: Job, progress: FitProgress) -> None:
            told.append(progress)

    changes = (
        ("[zero-shot, fine-tune, scratch]", "[scratch]"),
        ("downstream: [4, 8]", "downstream: [120]"),
        ("batch_size: 8", "batch_size: 1"),
        ("{epochs: 2, learning_rates: [1e-4, 1e-3]}", "{epochs: 1, learning_rates: [1e-3]}"),
        ("learning_rates: [1e-3, 1e-2]", "learning_rates: [1e-3]"),
    )
    (plan,) = prepare(SlowToy, write_suite(tmp_path, *changes), device="cpu", output=tmp_path / "runs")
    run_plan(plan, reporter=Listens())
    inside = [progress for progress in told if 0 < progress.done < 120 and progress.total == 120]
    assert inside
    assert {(progress.unit, progress.best) for progress in inside} == {("step", None)}  # no epoch has ended yet


def test_jobs_that_end_between_two_polls_count() -> None:
    clock = Clock()
    left = Remaining(dict.fromkeys("abcd", 100), clock)
    for job in "abc":
        clock.now += 5
        left.reported(job, 1, 1)
    assert left.seconds() == 5


def test_scores_take_no_training() -> None:
    left = Remaining({"a": 0})
    left.reported("a", 1, 1)
    assert left.seconds() is None


def test_trials_that_a_search_adds_are_shown_counted_and_known_to_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, again = (plan_of(tmp_path, with_toy(), extend=1) for _ in range(2))
    planned = set(plan.jobs)
    unknown: set[str] = set()

    class Looks(RunProgress):
        def finished(self, job: Job, outcome: Outcome) -> None:
            (run,) = read_runs(tmp_path / "runs", with_toy())
            unknown.update({job.id} - {known.id for known in run.jobs})
            super().finished(job, outcome)

    with Looks(plan, planned) as progress:
        run_in(tmp_path / "runs", plan, reporter=progress)
    ends = [line for line in capsys.readouterr().err.splitlines() if "validation" in line or "scored" in line]
    added = [plan.jobs[id] for id in plan.jobs.keys() - planned]
    assert added
    assert not unknown
    for job in added:
        assert sum(f"] {job.label}: validation" in line for line in ends) == 1
    assert ends[-1].startswith(f"[{len(plan.jobs)}/{len(plan.jobs)}] ")
    with RunProgress(again, set()) as progress:
        run_in(tmp_path / "runs", again, reporter=progress)
    assert again.jobs.keys() == plan.jobs.keys()
    assert capsys.readouterr().err == ""


def test_a_trial_that_a_search_adds_has_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    plan = plan_of(tmp_path, with_toy(), extend=1)
    point = next(job for job in plan.jobs.values() if isinstance(job, Point) and job.trials)
    added = with_value(plan.trials(point)[0], point, {"learning_rate": 0.1})
    with RunProgress(plan, {point.id}) as progress:
        plan.widen(point, [added])
        progress.progressed(added, FitProgress(1, 4, "epoch", 0.5))
        assert [(bar.completed, bar.total) for bar in progress._bars.tasks] == [(0, 2), (1, 4)]
        progress.finished(added, Outcome("diverged", reason="nan"))
        assert [(bar.completed, bar.total) for bar in progress._bars.tasks] == [(1, 2)]


def test_what_fails_because_its_pretraining_failed_is_not_reported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, with_toy())
    jobs = list(plan.jobs.values())

    def broken(job: Job) -> bool:
        """Whether the job needs the first pre-training."""
        return job.id == jobs[0].id or any(broken(plan.jobs[parent]) for parent in job.parents)

    with RunProgress(plan, set(plan.jobs)) as progress:
        for job in jobs:
            progress.finished(job, Outcome("failed", reason="boom") if broken(job) else Outcome("ok", reused=True))
    lines = capsys.readouterr().err.splitlines()
    assert isinstance(jobs[0], Trial)
    assert [line for line in lines if "boom" in line] == [f"[1/{len(jobs)}] {jobs[0].label}: failed: boom"]
    assert len(lines) == 1 + sum(not broken(job) for job in jobs)
