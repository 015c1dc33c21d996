"""Where jobs leave what they made, a folder for each.

``OUTPUT/jobs/<job id>/`` holds all of a job: ``job.json`` (its description), ``model/`` (weights) with their
``model.sha256``, ``history.jsonl``, ``errors.npy`` (of a point: the error of each test example), ``workspace/`` (resume
state) while it runs, ``failure.log`` if it failed, and ``result.json``, written last and atomically: if it exists, the
job is done. A lock file keeps two runs on one folder apart: the second waits and then finds the work done.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from pdebench_fm._util.files import remove, replacing
from pdebench_fm._util.text import one_line, quoted
from pdebench_fm.errors import DataFileError, UnsupportedError
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.plan.job import Job, Point
from pdebench_fm.plan.results import from_text, to_text
from pdebench_fm.records.errors import FILE, as_kept, digest
from pdebench_fm.registry.calling import located

_LOG = logging.getLogger("pdebench_fm.run")
UNSUPPORTED = "unsupported: "
"""How the log of a job begins whose model cannot do it."""


class JobStore:
    """The jobs of one output folder; several processes may use it at once.

    Hold a job's `lock` to change its folder, except to remove weights that no point chose. Reading needs none.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self._jobs = output / "jobs"
        self._read_before: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}  # with the marks of their files

    def __reduce__(self) -> tuple[type[JobStore], tuple[Path]]:
        """Go to another process without what this one has read."""
        return JobStore, (self.output,)

    def folder(self, job_id: str) -> Path:
        """Everything of one job."""
        return self._jobs / job_id

    def model(self, job_id: str) -> Path:
        """Folder of a trial's weights; there only where they are whole."""
        return self.folder(job_id) / "model"

    def workspace(self, job_id: str) -> Path:
        """Folder of what a fit needs to go on after a kill."""
        return self.folder(job_id) / "workspace"

    def log(self, job_id: str) -> Path:
        """What went wrong; there only if the job failed."""
        return self.folder(job_id) / "failure.log"

    def lock(self, job_id: str) -> FileLock:
        """Make a job's folder if it is missing, and return the lock on it."""
        path = self.folder(job_id) / "lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, mode=0o664)  # groups share folders of results

    def result(self, job_id: str) -> dict[str, Any] | None:
        """Return the result of a job, None if it is not done or its result is damaged."""
        try:
            return self._read(job_id)
        except DataFileError:
            return None

    def set_aside_damaged(self, job_id: str) -> None:
        """Rename the result of a job if it is damaged, so that the job is done again."""
        try:
            self._read(job_id)
        except DataFileError as error:
            file = self.folder(job_id) / "result.json"
            aside = file.with_name("result.damaged.json")
            remove(aside)
            os.replace(file, aside)
            _LOG.warning("%s; set aside as %s, the job is done again", error, aside.name)

    def _read(self, job_id: str) -> dict[str, Any] | None:
        """Return the result of a job, None if there is none; `DataFileError` if it is damaged."""
        file = f"{self._jobs}/{job_id}/result.json"
        try:
            found = os.stat(file)
            mark = (found.st_ino, found.st_size, found.st_mtime_ns)
            before, result = self._read_before.get(job_id, ((), {}))
            if before != mark:
                with open(file, "rb") as opened:
                    result = from_text(opened.read(), job_id)
                self._read_before[job_id] = (mark, result)
            return result
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise DataFileError(f"{file}: is damaged: {one_line(error)}") from None

    def finished(self, job: Job, scored_with: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of a job, None if it has to be done (again).

        Args:
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
        text = json.dumps(job.describe(), indent=1, sort_keys=True, allow_nan=False) + "\n"
        _write(self.folder(job.id) / "job.json", text)

    def end(self, job: Job, result: Mapping[str, Any]) -> None:
        """Keep the result: from now on the job is done."""
        folder = self.folder(job.id)
        for log in folder.glob("failure*.log"):
            log.unlink(missing_ok=True)
        _write(folder / "result.json", to_text(result, job.id))
        self.clear_workspace(job.id)  # not sooner: the fit would be lost

    def log_failure(self, job: Job, error: BaseException, rank: int = 0) -> None:
        """Keep what went wrong, one line and the traceback; of a process that only takes part, in a file of its own."""
        name = f"failure-{rank}.log" if rank else "failure.log"
        kind = UNSUPPORTED if isinstance(error, UnsupportedError) else ""
        text = "\n\n".join([quoted(kind + located(error)), "".join(traceback.format_exception(error))])
        with suppress(OSError):  # the disk may be full, and just that what went wrong
            self.folder(job.id).mkdir(parents=True, exist_ok=True)  # it may never have begun
            (self.folder(job.id) / name).write_text(text, encoding="utf-8", errors="backslashreplace")

    def failure(self, job_id: str) -> str:
        """The line that `log_failure` kept of a job that is not done."""
        try:
            return self.log(job_id).read_text(encoding="utf-8").splitlines()[0]
        except (OSError, ValueError, IndexError):
            return "failed, and left no log"

    def write_history(self, job: Job, history: Iterable[Mapping[str, Any]]) -> None:
        """Keep the history of a fit, a line of JSON for each epoch."""
        with (self.folder(job.id) / "history.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(dict(entry)) + "\n" for entry in history)

    def keep_model(self, job: Job, model: OperatorModel) -> None:
        """Save a trial's weights so that a reader sees all of them or none."""
        temporary = self.folder(job.id) / "model.tmp"
        remove(temporary)
        self.clear_model(job.id)
        temporary.mkdir()
        model.save(temporary)
        _write(_sums(self.model(job.id)), _sha256(temporary, self.model(job.id).name))
        mode = stat.S_IMODE(_sums(self.model(job.id)).stat().st_mode)
        for file in filter(Path.is_file, temporary.rglob("*")):
            file.chmod(mode)  # safetensors writes files that only their owner can read
        os.replace(temporary, self.model(job.id))

    def keep_errors(self, job: Job, errors: np.ndarray) -> str | None:
        """Keep the error of each test example, (examples,), and return their SHA-256; None if one is too large."""
        kept = as_kept(errors)
        if not np.isfinite(kept).all():
            return None
        with replacing(self.folder(job.id) / FILE) as temporary, temporary.open("wb") as file:
            np.save(file, kept)
        return digest(kept)

    def clear_model(self, job_id: str) -> None:
        """Remove a trial's weights."""
        remove(self.model(job_id))
        remove(_sums(self.model(job_id)))

    def clear_workspace(self, job_id: str) -> None:
        """Remove what a fit that has ended does not need any more."""
        remove(self.workspace(job_id))


def _covers(had: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a point has every score that is wanted, made as it is made now; it may have more."""
    if not isinstance(had, dict) or had.get("evaluation") != wanted["evaluation"]:
        return False
    return bool(wanted["versions"].items() <= had.get("versions", {}).items())


def check_weights(folder: Path) -> None:
    """Refuse kept weights that do not have the SHA-256 beside them."""
    try:
        known = _sums(folder).read_text(encoding="utf-8", errors="replace")
    except OSError:
        known = "none"
    found = _sha256(folder, folder.name)
    if not set(known.splitlines()) <= set(found.splitlines()) or bool(known) != bool(found):  # a file more is no harm
        raise DataFileError(f"{folder}: these weights do not have the SHA-256 in {_sums(folder).name}")


def _sums(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")


def _sha256(folder: Path, name: str) -> str:
    """Return a line for each file of a folder, as sha256sum prints it in the parent of a folder of that name."""
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return "".join(f"{_content_sha256(folder / file)}  {name}/{file}\n" for file in files)


def _content_sha256(path: Path) -> str:
    with path.open("rb") as file:  # not from the cache of hashes, which trusts size and time
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
