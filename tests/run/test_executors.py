"""Every registered executor: order, isolation, one process that dies, Ctrl-C."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pdebench_fm.api import make_executor
from pdebench_fm.errors import RunError, SettingError, UnknownNameError, WorkerDiedError
from pdebench_fm.plan.job import Job
from pdebench_fm.registry import registry
from pdebench_fm.run.executors import LocalPool
from pdebench_fm.run.runner import RunResult, Silent
from pdebench_fm.run.worker import Outcome
from tests.support.installed import with_toy
from tests.support.toy import TOY, Toy, plan_of, run_in


def scores(result: RunResult) -> list[tuple[str, str, int, int, float]]:
    return [(r.task, r.protocol, r.examples, r.seed, r.metrics["relative_l2"]) for r in result.records]


@pytest.mark.parametrize("name", registry().names("executors"))
def test_each_gives_the_same_scores_and_respects_parents(tmp_path: Path, name: str) -> None:
    plan = plan_of(tmp_path, with_toy())
    finished: list[str] = []

    class Order(Silent):
        def finished(self, job: Job, outcome: Outcome) -> None:
            assert all(parent in finished for parent in job.parents)
            finished.append(job.id)

    with make_executor(registry(), name, {}, workers=2) as executor:
        result = run_in(tmp_path / "runs", plan, executor=executor, reporter=Order())
    assert len(finished) == len(plan.jobs)
    reference = run_in(tmp_path / "other", plan_of(tmp_path, with_toy()))
    for mine, theirs in zip(scores(result), scores(reference), strict=True):
        assert mine[:4] == theirs[:4]
        assert mine[4] == pytest.approx(theirs[4], rel=1e-3)


def test_unknown_names_and_settings_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'local'"):
        make_executor(registry(), "locl", {})
    with pytest.raises(SettingError, match="partition"):
        make_executor(registry(), "debug", {"partition": "gpu"})


def test_workers_have_the_threads_and_gpus_they_are_given() -> None:
    before = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")}
    with LocalPool(2, threads=3, gpus=["4", "GPU-f00"]) as pool:
        found = {future.result() for future in [pool.submit(_seen, 1.0) for _ in range(2)]}
    assert {gpu for _, gpu, _ in found} == {"4", "GPU-f00"}
    assert {threads for _, _, threads in found} == {"3"}
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


def _seen(seconds: float) -> tuple[int, str | None, str | None]:
    time.sleep(seconds)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("OMP_NUM_THREADS")


class DiesOnce(Toy):
    """Kills the process of its first fit to 8 examples."""

    def fit(self, train, validation, budget, trial, context):  # type: ignore[no-untyped-def]
        mark = context.workspace.parents[1] / "died"
        if len(train) == 8 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(train, validation, budget, trial, context)


def test_a_job_whose_process_dies_has_failed_and_the_run_goes_on(tmp_path: Path) -> None:
    registered = registry().with_model(replace(TOY, factory=DiesOnce))
    plan = plan_of(tmp_path, registered)
    with LocalPool(1) as pool:
        result = run_in(tmp_path / "runs", plan, executor=pool)
        again = run_in(tmp_path / "runs", plan, executor=pool)
    failed = [r for r in result.records if r.status == "failed"]
    assert len(failed) == 1
    assert "its process died" in failed[0].reason
    assert again.complete
    assert not list((tmp_path / "runs" / "jobs").glob("*/progress.json"))


def test_a_plugin_that_cannot_be_pickled_gets_a_line(tmp_path: Path) -> None:
    class Local(Toy):
        """No worker can import it."""

    plan = plan_of(tmp_path, registry().with_model(replace(TOY, factory=Local)))
    with LocalPool(2) as pool, pytest.raises(RunError, match=r"cannot be handed .* --executor debug"):
        run_in(tmp_path / "runs", plan, executor=pool)


def test_a_pool_that_is_broken_off_kills_what_runs() -> None:
    pool = LocalPool(1)
    assert pool.submit(_seen, 0.0).result()  # it has started
    running: Future[object] = pool.submit(_seen, 60.0)
    while not running.running():
        time.sleep(0.05)
    began = time.monotonic()
    pool.shutdown(wait=False, cancel_futures=True)
    assert isinstance(running.exception(20), WorkerDiedError)
    assert time.monotonic() - began < 20
