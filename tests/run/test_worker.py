"""What a job does when its fit raises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pdebench_fm.errors import RunError
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.model import entry_of
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry import registry
from pdebench_fm.run.distributed import World
from pdebench_fm.run.work import Setting, Work
from pdebench_fm.run.worker import Worker
from tests.support.installed import with_toy
from tests.support.toy import Toy, plan_of

HERE = "test_worker.py:" + next(
    str(number)
    for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
    if line.endswith("  # line HERE")
)
LABEL = "pre-training poisson · learning_rate=0.001"


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A trial whose fit raises."""

    def fails(*_: object) -> None:
        raise ValueError("no\nroom")  # line HERE

    monkeypatch.setattr(Toy, "fit", fails)
    plan = plan_of(tmp_path, with_toy())
    return next(job for job in plan.jobs.values() if isinstance(job, Trial) and job.label == LABEL)


class Rank(World):
    """One of several processes, the others of which are not there."""

    def from_main(self, value: object) -> object:  # type: ignore[override]
        return value


def worker(output: Path, world: World) -> Worker:
    return Worker(Setting("test", with_toy(), JobStore(output), "cpu", world=world))


def test_what_a_fit_raises_ends_its_job_and_no_other(trial: Trial, tmp_path: Path) -> None:
    outcome = worker(tmp_path, World()).do(Work(trial, {}))
    assert (outcome.status, outcome.reason, outcome.result) == ("failed", f"ValueError: no room ({HERE})", {})
    folder = tmp_path / "jobs" / trial.id
    assert "ValueError: no\nroom" in (folder / "failure.log").read_text()
    assert not (folder / "progress.json").exists()


@pytest.mark.parametrize(("rank", "log"), [(0, "failure.log"), (1, "failure-1.log")])
def test_what_one_rank_raises_ends_the_run_since_the_others_wait_for_it(
    trial: Trial, tmp_path: Path, rank: int, log: str
) -> None:
    (tmp_path / "jobs" / trial.id).mkdir(parents=True)  # as rank 0 does
    with pytest.raises(RunError, match=rf"^{LABEL}: process {rank}: ValueError: no room \({HERE}\)$"):
        worker(tmp_path, Rank(rank, 2)).do(Work(trial, {}))
    assert "ValueError: no\nroom" in (tmp_path / "jobs" / trial.id / log).read_text()
    assert not (tmp_path / "jobs" / trial.id / "result.json").exists()


def test_a_process_with_other_code_than_the_run_does_nothing(tmp_path: Path) -> None:
    """A source file may change between the import of the run's own process and that of its workers."""
    for entry in (entry_of(Toy), replace(entry_of(Toy), version="code-0123456789abcdef")):
        setting = Setting("test", registry().with_model(entry), JobStore(tmp_path), "cpu", process="another")
        if entry.version == entry_of(Toy).version:
            assert Worker(setting)
        else:
            with pytest.raises(RunError, match="model 'toy': a worker process has other code than the run itself"):
                Worker(setting)
