"""Runs a plan: every job once, a record for every row as soon as its point is scored.

Running the same plan again continues where it stopped: finished jobs are reused, failed ones tried again, and where
nothing is left to do nothing is trained or written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces import Executor, Progress
from pdebench_fm.plan.job import Job, Plan, trained_examples
from pdebench_fm.records.record import Record
from pdebench_fm.registry import Registry
from pdebench_fm.run.distributed import Group
from pdebench_fm.run.executors import InProcessExecutor
from pdebench_fm.run.recording import _RecordLog, _RecordMaker
from pdebench_fm.run.store import JobStore
from pdebench_fm.run.worker import Outcome, Perform
from pdebench_fm.scoring.point import load_metrics, scored_with


class Reporter(Protocol):
    """Hears how a run goes; shows it or ignores it."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """A fit has got further."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A job has ended, or had been done before."""


class Silent:
    """A reporter that ignores everything."""

    def started(self, job: Job) -> None:
        """Ignore it."""

    def progressed(self, job: Job, progress: Progress) -> None:
        """Ignore it."""

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class RunResult:
    """What a run ended with.

    Args:
        records: one per row, in the order of the plan.
        folder: where they were written.
        changed: whether this run wrote any record; where not, all had been done before.
    """

    records: list[Record]
    folder: Path
    changed: bool

    @property
    def complete(self) -> bool:
        """Whether every row was scored or is unsupported by declaration."""
        return all(record.status in ("ok", "unsupported") for record in self.records)


def results_folder(plan: Plan, output: Path) -> Path:
    """Where the records, table and figures of a plan go: ``OUTPUT/<suite>/<model>``."""
    return output / plan.suite.name / plan.model.name


def run_plan(
    plan: Plan,
    registry: Registry,
    output: Path,
    *,
    device: str = "cpu",
    reporter: Reporter | None = None,
    executor: Executor[Job, Outcome] | None = None,
    group: Group | None = None,
) -> RunResult:
    """Run every job of a plan and write its records.

    Args:
        plan: what to do.
        registry: where plugins come from.
        output: folder for jobs and results; may hold those of earlier runs, and other runs may use it at the same time.
        device: torch device.
        reporter: hears of progress; nobody by default.
        executor: where jobs run; in this process by default.
        group: processes that fit every trial together, of which this one leads; the executor is then the default.
    """
    reporter = reporter or Silent()
    executor = executor or InProcessExecutor()
    load_metrics(registry)  # without the main score nothing is to be computed or written
    folder = results_folder(plan, output)
    _check_writable(output, output / "jobs", folder)

    def hear(job: Job, progress: Progress | None) -> None:
        if progress is None:
            reporter.started(job)
        else:
            reporter.progressed(job, progress)

    log = _RecordLog(folder / "records.jsonl", plan, _RecordMaker(plan, registry, JobStore(output), device))
    for job, outcome in executor.run(_largest_first(plan), Perform(plan, registry, output, device, group), hear):
        reporter.finished(job, outcome)
        log.enter(job, outcome)
    return RunResult(log.made, folder, log.changed)


def _check_writable(*folders: Path) -> None:
    """Make the folders where they are missing.

    Raises:
        UsageError: one cannot be made or written to; nothing has been computed then.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise UsageError(f"{folder}: results cannot be written there: {error.strerror or error}") from error


def _largest_first(plan: Plan) -> list[Job]:
    """Jobs so that long pre-trainings start early and nobody waits for the last of them; parents stay in front."""
    jobs = list(plan.jobs.values())
    first = [
        job for job in jobs if job.kind == "trial" and not job.parents and "few_shot" not in job.description["train"]
    ]
    first.sort(key=trained_examples, reverse=True)
    early = {job.id for job in first}
    return [*first, *(job for job in jobs if job.id not in early)]


def pending(plan: Plan, registry: Registry, output: Path) -> Iterator[Job]:
    """Jobs that still have to be done."""
    metrics, _ = load_metrics(registry)
    store, wanted = JobStore(output), scored_with(registry, metrics)
    return (job for job in plan.jobs.values() if store.finished(job, wanted) is None)
