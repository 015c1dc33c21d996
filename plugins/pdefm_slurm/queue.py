"""What was submitted to Slurm from a folder of results, and what Slurm says of it.

``OUTPUT/slurm/<job>.json`` lists the tasks of one submission and the jobs bundled in each. Accounting is not needed:
whether a job is done says its ``result.json``, whether its task still waits or runs says ``squeue``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdebench_fm.interfaces import QueuedJob

NAME = "pdefm"
"""Of all our jobs in Slurm."""
_PATIENCE = 0.5  # seconds that Slurm may take to answer ``pdefm status``


@dataclass(frozen=True)
class Place:
    """Where a job is in Slurm's queue.

    Args:
        task: Slurm's id of the task that does it, e.g. ``17_3``.
        number: of the job in the task's bundle.
        log: what the task prints.
    """

    task: str
    number: int
    log: Path

    @property
    def array(self) -> str:
        """Slurm's id of the job array."""
        return self.task.partition("_")[0]


def folder_of(output: Path) -> Path:
    """Return where submissions, logs and what tasks return are kept."""
    return output.absolute() / "slurm"


def write_submission(folder: Path, tasks: Sequence[str], keys: Sequence[Sequence[str]]) -> None:
    """Remember which jobs each task of a submission does, by their ids."""
    about = {"submitted": time.time(), "tasks": tasks, "jobs": keys}
    write(submission(folder, tasks[0]), json.dumps(about).encode())


def submission(folder: Path, task: str) -> Path:
    """Return the file that remembers the submission of a task."""
    return folder / f"{task.partition('_')[0]}.json"


def submitted(folder: Path) -> dict[str, Place]:
    """Return where each job was submitted last."""
    found: list[tuple[float, list[tuple[str, Place]]]] = []
    for path in folder.glob("*.json"):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            found.append((about["submitted"], list(places_of(folder, about["tasks"], about["jobs"]))))
        except (OSError, ValueError, LookupError, TypeError):  # removed meanwhile, or another program's
            continue
    return {key: place for _, places in sorted(found, key=lambda pair: pair[0]) for key, place in places}


def places_of(folder: Path, tasks: Sequence[str], keys: Sequence[Sequence[str]]) -> Iterator[tuple[str, Place]]:
    """Yield each job of a submission with its place."""
    for task, bundle in zip(tasks, keys, strict=True):
        log = log_of(folder, task)
        for number, key in enumerate(bundle):
            yield key, Place(task, number, log)


def jobs_of(output: Path) -> dict[str, QueuedJob]:
    """Return what was submitted from a folder of results, for ``pdefm status``; ``queue`` of the executor's entry."""
    places = submitted(folder_of(output))
    states = (queued(_PATIENCE) or {}) if places else {}
    told = {task: f"{state} ({reason})" if reason else state for task, (state, reason) in states.items()}
    return {key: QueuedJob(place.task, told.get(place.task, ""), place.log) for key, place in places.items()}


def log_of(folder: Path, task: str) -> Path:
    """Return the file that takes what a task prints."""
    return folder / f"{task}_0_log.out"


def outcome_file(folder: Path, task: str, number: int | str) -> Path:
    """Return the file in which a job of a bundle leaves what it returned."""
    return folder / "outcomes" / f"{task}-{number}"


def write(path: Path, content: bytes) -> None:
    """Write a file whose readers see all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_bytes(content)
    temporary.replace(path)


def queued(patience: float = 30.0) -> dict[str, tuple[str, str]] | None:
    """Return state and reason of our tasks in the queue, other users' too, e.g. ``("PENDING", "Dependency")``.

    Args:
        patience: seconds to wait for Slurm.

    Returns:
        None if there is no Slurm here, or it does not answer.
    """
    if shutil.which("squeue") is None:
        return None
    command = ["squeue", "--noheader", "--array", "--name", NAME, "--format", "%i|%T|%r"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=patience, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(_tasks(answer.stdout))


def _tasks(text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for line in text.splitlines():
        task, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        yield task, (state, "" if reason == "None" else reason)


def cancel(tasks: Sequence[str]) -> None:
    """Take tasks out of the queue, running ones too."""
    for start in range(0, len(tasks), 500):  # a command line is not endless
        subprocess.run(["scancel", *tasks[start : start + 500]], capture_output=True, check=False)
