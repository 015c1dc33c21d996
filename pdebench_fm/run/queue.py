"""What was submitted to Slurm from a folder of results, and what Slurm says of it.

``OUTPUT/slurm/<job>.json`` lists the tasks of one submission and the jobs bundled in each. Accounting is not needed:
whether a job is done says its ``result.json``, whether its task still waits or runs says ``squeue``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pdebench_fm._util.files import replacing

NAME = "pdefm"
"""Of all our jobs in Slurm."""


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
    with replacing(submission(folder, tasks[0])) as temporary:
        temporary.write_text(json.dumps({"submitted": time.time(), "tasks": tasks, "jobs": keys}), encoding="utf-8")


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


def log_of(folder: Path, task: str) -> Path:
    """Return the file that takes what a task prints."""
    return folder / f"{task}_0_log.out"


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
