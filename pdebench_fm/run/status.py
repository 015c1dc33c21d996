"""What a folder of runs holds: what is done, what runs, what failed.

Reads only files, so it works while a run goes on, after it died, and from another machine that sees the folder.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from pdebench_fm._util.files import replacing
from pdebench_fm._util.processes import is_running
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.plan import Plan
from pdebench_fm.run.progress import JobProgress, read_progress

FILE = "plan.json"
_STALE = 60.0  # seconds without a sign of life

State = Literal["done", "running", "interrupted", "failed", "waiting"]


@dataclass(frozen=True)
class JobStatus:
    """One job of a run.

    Args:
        id: of the job.
        label: what to call it.
        passes: training examples that pass through the model.
        state: ``interrupted`` if its process is gone.
        progress: how far it has got, if it runs.
        reason: why it failed.
        log: the file that says more.
    """

    id: str
    label: str
    passes: int
    state: State
    progress: JobProgress | None = None
    reason: str = ""
    log: str = ""


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
        running = [job for job in self.jobs if job.state == "running" and job.progress and job.progress.done]
        speed = sum(_speed(job) for job in running)
        if not speed:
            return None
        left: float = sum(job.passes for job in self.jobs if job.state in ("waiting", "interrupted", "failed"))
        for job in running:
            assert job.progress is not None
            left += job.passes * (1 - job.progress.done / max(job.progress.total, 1))
        return left / speed


def write_plan(plan: Plan) -> None:
    """Keep beside the records what a run has to do, for `read_runs`."""
    jobs = [
        {"id": job.id, "label": job.label, "passes": job.passes if isinstance(job, Trial) else 0}
        for job in plan.jobs.values()
    ]
    about = {"suite": plan.suite.name, "model": plan.model.name, "profile": plan.profile_name, "jobs": jobs}
    path, text = plan.folder / FILE, json.dumps(about)
    if path.exists() and path.read_bytes() == text.encode():
        return
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_runs(output: Path) -> list[RunStatus]:
    """Return the runs under a folder of results, the newest last."""
    found = []
    for path in sorted(_plans(output), key=lambda path: path.stat().st_mtime):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            store = path.parents[2] / "jobs"
            jobs = tuple(_status(store, job) for job in about["jobs"])
            found.append(RunStatus(about["suite"], about["model"], about["profile"], path.parent, jobs))
        except (OSError, ValueError, LookupError, TypeError):  # another program's file of this name
            continue
    return found


def _plans(output: Path) -> Iterator[Path]:
    """Yield the plans under a folder; the folders of jobs, of which there are thousands, are left out."""
    for folder, below, files in os.walk(output):
        if "jobs" in below:
            below.remove("jobs")
        if FILE in files:
            yield Path(folder) / FILE


def _status(store: Path, job: Mapping[str, Any]) -> JobStatus:
    folder = store / job["id"]
    about = (job["id"], job["label"], job["passes"])
    try:
        files = {entry.name for entry in os.scandir(folder)}
    except OSError:
        files = set()
    if "result.json" in files:
        return JobStatus(*about, "done")
    progress = read_progress(folder) if "progress.json" in files else None
    if progress is not None:
        return JobStatus(*about, "running" if is_alive(progress) else "interrupted", progress)
    if "failure.log" in files:
        log = folder / "failure.log"
        reason = log.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        return JobStatus(*about, "failed", None, reason, str(log))
    return JobStatus(*about, "waiting")


def is_alive(progress: JobProgress) -> bool:
    """Whether the process that wrote the progress is still there; from another machine, whether it wrote lately."""
    if progress.host == socket.gethostname():
        return is_running(progress.pid, progress.process)
    return time.time() - progress.updated < _STALE


def _speed(job: JobStatus) -> float:
    assert job.progress is not None
    seconds = max(job.progress.updated - job.progress.started, 1e-3)
    return job.passes * job.progress.done / max(job.progress.total, 1) / seconds
