from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.errors import RunError
from pdebench_fm.plan.job import Job
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.run.distributed import Group
from pdebench_fm.run.worker import Perform, Worker
from pdebench_fm.suite.reading import load_suite
from tests.support.installed import with_toy
from tests.support.toy import Toy, toy_suite

LABEL = "pre-training poisson · learning_rate=0.001"


class Leader(Group):
    """Leads a second process that is not there."""

    def announce(self, job_id: str | None) -> None:
        return


class Follower(Group):
    """Hears of one trial, whatever it is."""

    def hear(self) -> str | None:
        return LABEL


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Worker, Worker, Job]:
    """A worker alone, one that leads a group, and a trial whose fit raises in both."""

    def fails(*_: object) -> None:
        raise ValueError("no\nroom")

    monkeypatch.setattr(Toy, "fit", fails)
    registry = with_toy()
    plan = make_plan(load_suite(toy_suite(tmp_path), registry), "tiny", model_spec(registry, "toy"), registry)
    (trial,) = (job for job in plan.jobs.values() if job.label == LABEL)
    alone, leader = (Worker(plan, registry, tmp_path, "cpu", group) for group in (None, Leader(0, 2)))
    return alone, leader, trial


def test_what_a_fit_raises_ends_its_job_and_no_other(broken: tuple[Worker, Worker, Job], tmp_path: Path) -> None:
    alone, _, trial = broken
    outcome = alone.perform(trial, lambda progress: None)
    assert (outcome.status, outcome.reason, outcome.result) == ("failed", "ValueError: no room", {})
    assert "ValueError: no\nroom" in (tmp_path / "jobs" / trial.id / "failure.log").read_text()


def test_what_one_process_of_a_group_raises_ends_the_run_since_the_others_wait_for_it(
    broken: tuple[Worker, Worker, Job], tmp_path: Path
) -> None:
    _, leader, trial = broken
    with pytest.raises(RunError, match=rf"^{LABEL}: ValueError: no room$"):
        leader.perform(trial, lambda progress: None)
    assert "ValueError: no\nroom" in (tmp_path / "jobs" / trial.id / "failure.log").read_text()
    assert not (tmp_path / "jobs" / trial.id / "result.json").exists()


def test_a_process_that_is_gone_when_the_next_trial_begins_ends_the_run(
    broken: tuple[Worker, Worker, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise RuntimeError("Connection closed by peer")

    _, leader, trial = broken
    monkeypatch.setattr(Leader, "announce", gone)
    with pytest.raises(RunError, match=rf"^{LABEL}: RuntimeError: Connection closed by peer$"):
        leader.perform(trial, lambda progress: None)
    with pytest.raises(RunError, match=r"^a process of the group is gone: Connection closed by peer$"):
        Leader(0, 2).dismiss()


def test_a_follower_that_cannot_read_what_the_leader_fitted_says_so_and_fits_nothing(
    broken: tuple[Worker, Worker, Job], tmp_path: Path
) -> None:
    alone, _, trial = broken
    follower = Worker(alone._plan, with_toy(), tmp_path, "cpu", Follower(1, 2))
    tuned = next(job for job in alone._plan.jobs.values() if job.kind == "trial" and job.parents)
    with pytest.raises(RunError, match=r"^cannot read its pre-training: every node must see the same --output folder$"):
        follower.take_part(tuned)
    result = {"status": "ok", "reason": "", "chosen": trial.id}
    (pretraining,) = (job for job in alone._plan.jobs.values() if job.id == tuned.description["start"]["job"])
    follower._store.folder(pretraining.id).mkdir(parents=True)
    follower._store.end(pretraining, result)  # the result has come, the weights not yet
    with pytest.raises(RunError, match=rf"^cannot read the weights of {LABEL}: every node must see the same --output"):
        follower.take_part(tuned)


def test_what_another_process_of_a_group_raises_is_one_line_that_names_it(
    broken: tuple[Worker, Worker, Job], tmp_path: Path
) -> None:
    alone, _, trial = broken
    perform = Perform(alone._plan, with_toy(), tmp_path, "cpu")
    perform.plan.jobs[LABEL] = trial
    (tmp_path / "jobs" / trial.id).mkdir(parents=True)  # as the leader does
    with pytest.raises(RunError, match=rf"^{LABEL}: process 1: ValueError: no room$"):
        perform.follow(Follower(1, 2), "cpu")
    log = tmp_path / "jobs" / trial.id / "failure-1.log"  # the leader's own is failure.log
    assert "ValueError: no\nroom" in log.read_text()
