"""Every registered executor: order, isolation, a process that dies, Ctrl-C, what cannot be pickled, many small jobs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from pdefm_slurm.queue import queued

from pdebench_fm.api import make_executor
from pdebench_fm.errors import PluginError, RunError, SettingError, UnknownNameError, WorkerDiedError
from pdebench_fm.hookspecs import ExecutorEntry
from pdebench_fm.interfaces import OperatorModel, Schedules, Task
from pdebench_fm.plan.job import Job
from pdebench_fm.registry import registry
from pdebench_fm.run.executors import LocalPool
from pdebench_fm.run.runner import Reporter, RunResult
from pdebench_fm.run.work import Outcome
from tests.support import same_records
from tests.support.command import PATIENCE, wait_until
from tests.support.environment import environment_after
from tests.support.installed import with_toy
from tests.support.slurm import FAST
from tests.support.toy import TOY, Toy, plan_of, run_in

Make = Callable[..., AbstractContextManager[Executor]]


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    """Two processes, which take seconds to start, for all tests that leave them working."""
    with make_executor(registry(), "local", {}, workers=2) as pool:
        yield pool


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slurm if name == "slurm" else ()) for name in registry().names("executors")
    ]
)
def make(request: pytest.FixtureRequest) -> Make:
    """How one of the registered executors is made for a folder of results."""
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    settings = FAST if request.param == "slurm" else {}

    def make(output: Path, own: bool = False, **more: object) -> AbstractContextManager[Executor]:
        """The pool of processes is the shared one unless a test wants its own; more settings are for Slurm."""
        if request.param == "local" and not own:
            return nullcontext(request.getfixturevalue("pool"))
        return make_executor(registry(), request.param, settings and {**settings, **more}, workers=2, output=output)

    return make


def test_each_gives_the_same_records_and_respects_parents(
    tmp_path: Path, make: Make, finished_run: Callable[[Path], RunResult]
) -> None:
    plan = plan_of(tmp_path, with_toy())
    finished: list[str] = []

    class Order(Reporter):
        def finished(self, job: Job, outcome: Outcome) -> None:
            assert all(parent in finished for parent in job.parents)
            finished.append(job.id)

    with make(tmp_path / "runs", tasks=2) as executor:
        assert run_in(tmp_path / "runs", plan, executor=executor, reporter=Order()).complete
    assert len(finished) == len(plan.jobs)
    finished_run(tmp_path / "other")
    assert same_records.main(str(tmp_path / "other"), str(tmp_path / "runs")) == 0
    jobs, expected = ({path.name for path in (tmp_path / name / "jobs").iterdir()} for name in ("runs", "other"))
    assert jobs == expected


class FailsAtEight(Toy):
    """Cannot be fitted to 8 examples."""

    def fit(self, train, validation, budget, trial, context):  # type: ignore[no-untyped-def]
        if len(train) == 8:
            raise ValueError("eight is too many")
        return super().fit(train, validation, budget, trial, context)


def test_in_each_a_job_that_fails_leaves_the_others_alone(tmp_path: Path, make: Make) -> None:
    registered = registry().with_model(replace(TOY, factory=FailsAtEight))
    with make(tmp_path / "runs") as executor:
        result = run_in(tmp_path / "runs", plan_of(tmp_path, registered), executor=executor)
    assert {record.status for record in result.records if record.examples != 8} == {"ok"}
    failed = [record for record in result.records if record.examples == 8]
    assert len(failed) == 4
    assert all(record.status == "failed" and "eight is too many" in record.reason for record in failed)


class DiesOnce(Toy):
    """Kills the process of its first fit to 8 examples."""

    def fit(self, train, validation, budget, trial, context):  # type: ignore[no-untyped-def]
        mark = context.workspace.parents[1] / "died"
        if len(train) == 8 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(train, validation, budget, trial, context)


def test_in_each_a_job_whose_process_dies_has_failed_and_the_next_run_does_it(
    tmp_path: Path, make: Make, request: pytest.FixtureRequest
) -> None:
    if "debug" in request.node.name:
        pytest.skip("its jobs run in this process")
    plan = plan_of(tmp_path, registry().with_model(replace(TOY, factory=DiesOnce)))
    with make(tmp_path / "runs") as executor:
        result = run_in(tmp_path / "runs", plan, executor=executor)
        failed = [record for record in result.records if record.status == "failed"]
        assert failed
        assert any("process died" in record.reason or "without a result" in record.reason for record in failed)
        assert not list((tmp_path / "runs" / "jobs").glob("*/progress.json"))
        again = run_in(tmp_path / "runs", plan, executor=executor)
    assert [record.reason for record in again.records if record.status == "failed"] == []


def test_in_each_a_run_that_is_broken_off_leaves_nothing_behind(tmp_path: Path, make: Make) -> None:
    class CtrlC(Reporter):
        def finished(self, job: Job, outcome: Outcome) -> None:
            raise KeyboardInterrupt

    before = {*multiprocessing.active_children()}  # the shared pool's
    with make(tmp_path / "runs", own=True) as executor, pytest.raises(KeyboardInterrupt):
        run_in(tmp_path / "runs", plan_of(tmp_path, with_toy()), executor=executor, reporter=CtrlC())
    wait_until(lambda: {*multiprocessing.active_children()} <= before, "the workers' end")
    wait_until(lambda: not queued(), "an empty queue")
    assert not list((tmp_path / "runs").glob("slurm/*.json"))


class Locked:
    """A factory that no process can be given."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self) -> OperatorModel:
        return Toy()


def test_in_each_a_plugin_that_cannot_be_pickled_gets_a_line_or_works(
    tmp_path: Path, make: Make, request: pytest.FixtureRequest
) -> None:
    plan = plan_of(tmp_path, registry().with_model(replace(TOY, factory=Locked())))
    with make(tmp_path / "runs", own=True) as executor:
        if "debug" in request.node.name:
            assert run_in(tmp_path / "runs", plan, executor=executor).complete
            return
        with pytest.raises(RunError, match=r"cannot be handed to .* --executor debug"):
            run_in(tmp_path / "runs", plan, executor=executor)
    assert not list((tmp_path / "runs").glob("*/*/records.jsonl"))


def test_each_does_500_empty_jobs(tmp_path: Path, make: Make) -> None:
    with make(tmp_path / "runs", tasks=8) as executor:
        if isinstance(executor, Schedules):
            futures = executor.schedule([Task(str(number), partial(int, number)) for number in range(500)])
        else:
            futures = [executor.submit(int, number) for number in range(500)]
        assert [future.result(timeout=PATIENCE) for future in futures] == list(range(500))


def test_unknown_names_and_settings_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'local'"):
        make_executor(registry(), "locl", {})
    with pytest.raises(SettingError, match="executor debug: partition"):
        make_executor(registry(), "debug", {"partition": "gpu"})


def test_a_factory_that_makes_no_executor_is_named() -> None:
    found = registry().with_entry("executors", ExecutorEntry("none", "1", lambda: None, "makes none"))
    with pytest.raises(PluginError, match=r"executor 'none' must be a concurrent.futures.Executor, got NoneType"):
        make_executor(found, "none", {})


def test_workers_have_the_threads_and_gpus_they_are_given() -> None:
    before = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
    with LocalPool(2, threads=3, gpus=["4", "GPU-f00"]) as pool:
        found = {future.result() for future in [pool.submit(environment_after, 1.0, *before) for _ in range(2)]}
    assert found == {("4", "3"), ("GPU-f00", "3")}
    assert {name: os.environ.get(name) for name in before} == before


@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("2", 2), ("3,1", 3), ("0", 1), ("many", 1)])
@pytest.mark.parametrize("name", ["local", "debug"])
def test_a_job_has_one_thread_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str, given: str | None, threads: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    before = torch.get_num_threads()
    with make_executor(registry(), name, {}) as executor:
        assert executor.submit(torch.get_num_threads).result() == threads
    assert torch.get_num_threads() == before


def test_workers_have_the_threads_that_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with make_executor(registry(), "local", {}, workers=2) as pool:
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"


def test_a_pool_that_is_broken_off_kills_what_runs() -> None:
    pool = LocalPool(1)
    assert pool.submit(os.getpid).result()  # it has started
    running: Future[object] = pool.submit(time.sleep, 2 * PATIENCE)
    while not running.running():
        time.sleep(0.05)
    pool.shutdown(wait=False, cancel_futures=True)
    assert isinstance(running.exception(PATIENCE), WorkerDiedError)
