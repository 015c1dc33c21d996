"""Where jobs leave what they made, a folder for each.

``OUTPUT/jobs/<job id>/`` holds all of a job: ``job.json`` (its description), ``model/`` (weights), ``history.jsonl``,
``workspace/`` (resume state) while it runs, ``failure.log`` if it failed, and ``result.json``, written last and
atomically: if it exists, the job is done. A lock file keeps two runs on one folder apart: the second waits and then
finds the work done.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from pdebench_fm._util.files import replacing
from pdebench_fm._util.text import named, quoted
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.plan.job import Job, Point


class JobStore:
    """The jobs of one output folder; several processes may use it at once.

    Hold a job's `lock` to change its folder, except to remove weights that no point chose. Reading needs none.

    Args:
        output: the folder that holds ``jobs/``.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._jobs = output / "jobs"

    def folder(self, job_id: str) -> Path:
        """Everything of one job."""
        return self._jobs / job_id

    def model(self, job_id: str) -> Path:
        """Folder of a trial's weights; there only where they are whole."""
        return self.folder(job_id) / "model"

    def workspace(self, job_id: str) -> Path:
        """Folder of what a fit needs to go on after a kill."""
        return self.folder(job_id) / "workspace"

    def lock(self, job_id: str) -> FileLock:
        """Make a job's folder if it is missing, and return the lock on it."""
        folder = self.folder(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "lock")

    def result(self, job_id: str) -> dict[str, Any] | None:
        """Return the result of a job, None if it is not done."""
        try:
            text = (self.folder(job_id) / "result.json").read_text(encoding="utf-8")
            result = json.loads(text)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a power cut left half of it
            return None
        whole = isinstance(result, dict) and {"status", "reason"} <= result.keys()  # not so: of some other program
        return result if whole else None

    def finished(self, job: Job, scored_with: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of a job, None if it has to be done (again).

        Args:
            job: a trial or a point.
            scored_with: what points are scored with now. One that lacks a score, or has one of another version, has to
                be scored again, which needs no training, where the chosen weights are still there.
        """
        result = self.result(job.id)
        if result is None or not isinstance(job, Point) or result["status"] != "ok":
            return result
        again = not _covers(result.get("scored_with"), scored_with) and self._has_weights(job, result)
        return None if again else result

    def _has_weights(self, job: Point, result: Mapping[str, Any]) -> bool:
        """Whether a point can be scored again without any training."""
        chosen = result.get("chosen")
        if chosen is None and job.start.job is not None:  # zero-shot: what its pre-training chose
            parent = self.result(job.start.job)
            chosen = (parent or {}).get("chosen")
        return chosen is None or self.model(chosen).exists()

    def begin(self, job: Job) -> None:
        """Write down what the job is."""
        _write_json(self.folder(job.id) / "job.json", job.describe())

    def end(self, job: Job, result: Mapping[str, Any]) -> None:
        """Keep the result: from now on the job is done."""
        folder = self.folder(job.id)
        for log in folder.glob("failure*.log"):
            log.unlink(missing_ok=True)
        _write_json(folder / "result.json", result)
        self.clear_workspace(job.id)  # not sooner: the fit would be lost

    def log_failure(self, job: Job, error: BaseException, rank: int = 0) -> None:
        """Keep what went wrong, one line and the traceback; of a process that only takes part, in a file of its own."""
        name = f"failure-{rank}.log" if rank else "failure.log"
        text = "\n\n".join([quoted(named(error)), "".join(traceback.format_exception(error))])
        with suppress(OSError):  # the disk may be full, and just that what went wrong
            (self.folder(job.id) / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    def failure(self, job_id: str) -> str:
        """The line that `log_failure` kept of a job that is not done."""
        try:
            return (self.folder(job_id) / "failure.log").read_text(encoding="utf-8").splitlines()[0]
        except (OSError, ValueError, IndexError):
            return "failed, and left no log"

    def write_history(self, job: Job, history: Iterable[Mapping[str, Any]]) -> None:
        """Keep the history of a fit, a line of JSON for each epoch."""
        with (self.folder(job.id) / "history.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(dict(entry)) + "\n" for entry in history)

    def keep_model(self, job: Job, model: OperatorModel) -> None:
        """Save a trial's weights so that a reader sees all of them or none."""
        temporary = self.folder(job.id) / "model.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        self.clear_model(job.id)
        temporary.mkdir()
        model.save(temporary)
        os.replace(temporary, self.model(job.id))

    def clear_model(self, job_id: str) -> None:
        """Remove a trial's weights."""
        shutil.rmtree(self.model(job_id), ignore_errors=True)

    def clear_workspace(self, job_id: str) -> None:
        """Remove what a fit that has ended does not need any more."""
        shutil.rmtree(self.workspace(job_id), ignore_errors=True)


def _covers(had: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a point has every score that is wanted, made as it is made now; it may have more."""
    if not isinstance(had, dict) or had.get("evaluation") != wanted["evaluation"]:
        return False
    return bool(wanted["versions"].items() <= had.get("versions", {}).items())


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
