"""Runs a plan: every job once, a record for every row as soon as its point is scored.

Running the same plan again continues it. Finished jobs are reused and failed ones tried again; a run with
nothing left to do trains and writes nothing.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING
from uuid import uuid4

from pdebench_fm.errors import RunError, UsageError
from pdebench_fm.interfaces import Progress, Schedules
from pdebench_fm.plan.job import Job
from pdebench_fm.plan.order import Order
from pdebench_fm.plan.plan import Plan
from pdebench_fm.records.frame import to_frame
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.run.distributed import World
from pdebench_fm.run.executors import DebugExecutor
from pdebench_fm.run.progress import read_progress
from pdebench_fm.run.recording import RecordLog, RecordMaker
from pdebench_fm.run.scheduling import Running, found_done, next_outcome, pending, runnable, take, task, work
from pdebench_fm.run.status import write_plan
from pdebench_fm.run.work import Outcome, Setting
from pdebench_fm.run.worker import carry_out
from pdebench_fm.scoring.point import load_metrics

if TYPE_CHECKING:
    from pandas import DataFrame

_LOG = logging.getLogger("pdebench_fm.run")
_POLL = 0.5  # seconds
_MANY = 100  # jobs; progress of more than these is read less often


class Reporter:
    """Hears how a run goes, and ignores it. `progressed` is called from a thread of its own."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """Hear that a job runs, and how far it has got; ``progress.total`` is 0 before its first report."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Hear that a job has ended, or had been done before."""


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Args:
        records: one per row, in the order of the plan.
        folder: where they were written.
        changed: whether this run wrote any record.
        planned: every cell of the plan.
        others: records of other profiles, tasks and seeds in the same file.
    """

    records: list[Record]
    folder: Path
    changed: bool
    planned: Sequence[Cell] = ()
    others: Sequence[Record] = ()

    def to_frame(self) -> DataFrame:
        """Return one row for each record; see `pdebench_fm.records.frame.to_frame`."""
        return to_frame(self.records)

    @property
    def complete(self) -> bool:
        """Whether every row was scored, or is unsupported by declaration."""
        return all(record.status in ("ok", "unsupported") for record in self.records)


def run_plan(
    plan: Plan,
    *,
    executor: Executor | None = None,
    reporter: Reporter | None = None,
    world: World | None = None,
) -> RunResult:
    """Run every job of a plan and write its records.

    Args:
        plan: what to do. Its output folder may hold results of other runs, and other runs may use it at the same time.
        executor: where jobs run; in this process by default.
        reporter: hears of progress.
        world: the processes that fit every trial together; all of them call this, and rank 0 writes.
    """
    reporter, executor, world = reporter or Reporter(), executor or DebugExecutor(), world or World()
    load_metrics(plan.registry)  # fails before any work if the main score cannot be loaded
    setting = _setting(plan, world)
    if not world.is_main:
        for _ in _jobs_as_they_finish(plan, setting, executor, {}):
            pass
        return RunResult([], plan.folder, False)
    writes = True
    try:
        _check_writable(plan.store.output, plan.store.output / "jobs", plan.folder)
        write_plan(plan)
    except UsageError:
        if pending(plan):
            raise
        writes = False  # a finished run, to be shown to somebody who may only read it
    log = RecordLog(plan.folder / "records.jsonl", plan, RecordMaker(plan), writes)
    running: Running = {}
    with _polled(plan, running, reporter):
        for job, outcome in _jobs_as_they_finish(plan, setting, executor, running):
            reporter.finished(job, outcome)
            log.enter(job, outcome)
    return RunResult(log.made, plan.folder, log.changed, plan.cells, log.others)


def submit_plan(plan: Plan, executor: Schedules) -> int:
    """Hand what is left of a plan to an executor that goes on without this process; return the number of jobs.

    The same plan run later waits for them and writes the records. A point that may add trials is left to that run.
    """
    _check_writable(plan.store.output, plan.store.output / "jobs", plan.folder)
    write_plan(plan)
    _, ready = take(Order(list(plan.jobs.values())), plan, load_metrics(plan.registry).scored_with())
    executor.schedule([task(job, plan, _setting(plan)) for job in ready])
    return len(ready)


def _setting(plan: Plan, world: World | None = None) -> Setting:
    return Setting(uuid4().hex, plan.registry, plan.store, plan.device, plan.weights, world or World())


def _jobs_as_they_finish(
    plan: Plan, setting: Setting, executor: Executor, running: Running
) -> Iterator[tuple[Job, Outcome]]:
    """Submit each job once its parents are done, and yield it with its outcome when it has ended."""
    order, scored_with = Order(list(plan.jobs.values())), load_metrics(plan.registry).scored_with()
    futures: dict[Future[Outcome], Job] = {}
    ended: SimpleQueue[Future[Outcome]] = SimpleQueue()

    def watch(job: Job, future: Future[Outcome]) -> None:
        running[job.id] = future
        futures[future] = job
        future.add_done_callback(ended.put)

    try:
        while True:
            if isinstance(executor, Schedules):
                done, ready = take(order, plan, scored_with)
                tasks = [task(job, plan, setting) for job in ready]
                for job, future in zip(ready, executor.schedule(tasks), strict=True):
                    watch(job, future)
                yield from done
            else:
                for job in runnable(order, plan, setting.world):
                    # Ranks of one fit ask together; what rank 0 found, a worker tells them.
                    done_before = found_done(job, plan, scored_with) if setting.world.size == 1 else None
                    if done_before is not None:
                        order.ended(job)
                        yield job, done_before
                        continue
                    _LOG.info("submit %s (%s)", job.label, job.id[:12])
                    running[job.id] = None
                    watch(job, executor.submit(carry_out, setting, work(job, plan)))
                    if not ended.empty():  # an executor may do the job at once
                        break
            if not futures:
                return
            job, outcome = next_outcome(ended, futures, plan, running)
            order.ended(job)
            yield job, outcome
    except BrokenExecutor as error:
        raise RunError("all workers died; the same command continues the run") from error
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise


@contextmanager
def _polled(plan: Plan, running: Running, reporter: Reporter) -> Iterator[None]:
    """Tell a reporter how far running jobs have got, as their progress files say."""
    over = threading.Event()

    def poll() -> None:
        while not over.wait(_POLL * max(1.0, len(running) / _MANY)):
            for job_id in [id for id, future in list(running.items()) if future is None or future.running()]:
                found = read_progress(plan.store.folder(job_id))
                if found is not None:
                    reporter.progressed(plan.jobs[job_id], Progress(found.done, found.total, found.unit, found.best))

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _check_writable(*folders: Path) -> None:
    """Make the folders if they are missing."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise UsageError(f"{folder}: results cannot be written there: {error.strerror or error}") from error
