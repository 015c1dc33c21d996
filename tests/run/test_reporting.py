"""What a run shows while it goes on, and the time left."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.plan.job import Job, Trial
from pdebench_fm.run.reporting import Remaining, RunProgress
from pdebench_fm.run.worker import Outcome
from tests.support.installed import with_toy
from tests.support.toy import plan_of


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
