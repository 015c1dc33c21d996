"""What a folder of runs holds: what is done, what runs, what failed.

Reads only files, so it works while a run goes on, after it died, and from another machine that sees the folder.
Executors of clusters add what their queue says.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from pdebench_fm._util.files import replacing
from pdebench_fm._util.processes import is_running
from pdebench_fm.errors import PLUGIN_ERRORS
from pdebench_fm.interfaces import QueuedJob
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.store import UNSUPPORTED
from pdebench_fm.records import file as record_file
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import located
from pdebench_fm.run.progress import JobProgress, read_progress

_LOG = logging.getLogger("pdebench_fm.run")
FILES = "plan*.json"
"""One for each profile that was run."""
_STALE = 60.0  # seconds without a sign of life

State = Literal["done", "running", "queued", "interrupted", "failed", "waiting"]


@dataclass(frozen=True)
class JobStatus:
    """One job of a run.

    Args:
        passes: training examples that pass through the model.
        state: ``interrupted`` if its process is gone, ``queued`` if a cluster will run it.
        queue: what a cluster says of it, e.g. ``PENDING (Dependency)``.
        task: the cluster's id of the task that does it.
    """

    id: str
    label: str
    passes: int
    state: State
    progress: JobProgress | None = None
    reason: str = ""
    log: str = ""
    queue: str = ""
    task: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Estimate from its progress; None if it has reported none."""
        if self.state != "running" or self.progress is None or not self.progress.speed:
            return None
        return (1 - self.progress.done / self.progress.total) / self.progress.speed


@dataclass(frozen=True)
class RunStatus:
    """One run: a model on a suite."""

    suite: str
    model: str
    profile: str
    folder: Path
    jobs: tuple[JobStatus, ...]

    def count(self, state: State) -> int:
        """Return how many jobs are in a state."""
        return sum(job.state == state for job in self.jobs)

    @property
    def seconds_left(self) -> float | None:
        """Estimate from running jobs; None if none has reported progress."""
        running = [(job, job.progress) for job in self.jobs if job.state == "running" and job.progress]
        speed = sum(job.passes * progress.speed for job, progress in running)
        if not speed:
            return None
        left: float = sum(
            job.passes for job in self.jobs if job.state in ("waiting", "queued", "interrupted", "failed")
        )
        left += sum(job.passes * (1 - progress.done / max(progress.total, 1)) for job, progress in running)
        return left / speed


def write_plan(plan: Plan) -> None:
    """Keep beside the records what a run has to do, for `read_runs`.

    The jobs of other tasks and seeds stay in the file, unless the plan has another job of that name.
    """
    about = {"suite": plan.suite.name, "version": plan.suite.version, "model": plan.model.name}
    about |= {"profile": plan.profile_name, "of": plan.model.describe()}
    planned = {
        job.id: {"id": job.id, "label": job.label, "passes": job.passes if isinstance(job, Trial) else 0}
        for job in plan.jobs.values()
    }
    path, labels = plan.folder / f"plan-{plan.profile_name}.json", {job.label for job in plan.jobs.values()}
    with record_file.lock(plan.folder / "records.jsonl"):  # another run may add a part of its own
        before = _jobs_before(path, about)
        kept = {id: job for id, job in before.items() if id in planned or job["label"] not in labels}
        text = json.dumps({**about, "jobs": [*{**kept, **planned}.values()]})
        if path.exists() and path.read_bytes() == text.encode():
            return
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _jobs_before(path: Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the jobs in a file if it is of the same suite, model and profile, by id."""
    with suppress(OSError, ValueError, LookupError, TypeError):  # there is none yet, or it is of another form
        found = json.loads(path.read_text(encoding="utf-8"))
        if all(found[name] == value for name, value in about.items()):
            return {job["id"]: {name: job[name] for name in ("id", "label", "passes")} for job in found["jobs"]}
    return {}


def read_runs(output: Path, registry: Registry) -> list[RunStatus]:
    """Return the runs under a folder of results, the newest last."""
    found = []
    queues: dict[Path, dict[str, QueuedJob]] = {}
    for path in sorted(_plans(output), key=lambda path: path.stat().st_mtime):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            above = path.parents[2]
            if above not in queues:
                queues[above] = _submitted(above, registry)
            jobs = tuple(_status(above / "jobs", job, queues[above]) for job in about["jobs"])
            found.append(RunStatus(about["suite"], about["model"], about["profile"], path.parent, jobs))
        except (OSError, ValueError, LookupError, TypeError):  # another program's file of this name
            continue
    return found


def _plans(output: Path) -> Iterator[Path]:
    """Yield the plans under a folder; the folders of jobs, of which there are thousands, are left out."""
    for folder, below, files in os.walk(output):
        if "jobs" in below:
            below.remove("jobs")
        yield from (Path(folder) / name for name in fnmatch.filter(files, FILES))


def _submitted(output: Path, registry: Registry) -> dict[str, QueuedJob]:
    """Return the jobs that executors have submitted from a folder of results, by id."""
    found: dict[str, QueuedJob] = {}
    for entry in registry.entries("executors"):
        if entry.queue:
            try:
                found |= registry.load("executors", entry.name, "queue")(output)
            except PLUGIN_ERRORS as error:  # the files say more
                _LOG.warning("executor %s does not say what is queued: %s", entry.name, located(error))
    return found


def _status(store: Path, job: Mapping[str, Any], submitted: Mapping[str, QueuedJob]) -> JobStatus:
    folder = store / job["id"]
    queued = submitted.get(job["id"], QueuedJob(""))
    told, log = queued.state, str(queued.log or "")
    status = partial(JobStatus, job["id"], job["label"], job["passes"], log=log, task=queued.task)
    if (folder / "result.json").exists():
        return status("done")
    progress = read_progress(folder)
    if progress is not None and is_alive(progress):
        return status("running", progress, queue=told)
    if told:
        return status("queued", progress, queue=told)
    if progress is not None:
        return status("interrupted", progress)
    failure = folder / "failure.log"
    with suppress(OSError), failure.open(encoding="utf-8", errors="replace") as lines:
        reason = lines.readline().rstrip("\n")
        return status("done" if reason.startswith(UNSUPPORTED) else "failed", reason=reason, log=str(failure))
    return status("waiting")


def is_alive(progress: JobProgress) -> bool:
    """Whether the process that wrote the progress is still there; from another machine, whether it was lately."""
    if progress.host == socket.gethostname():
        return is_running(progress.pid, progress.process)
    return time.time() - max(progress.updated, progress.seen) < _STALE
