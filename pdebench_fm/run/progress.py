"""How far a job has got: a small file in its folder, which any process may poll.

``OUTPUT/jobs/<id>/progress.json`` exists while the job runs, and is touched every few seconds. A killed run leaves it
behind: then its process is gone, or the file is old.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from pdebench_fm._util.files import replacing
from pdebench_fm._util.processes import mark
from pdebench_fm.interfaces import Progress

FILE = "progress.json"
_INTERVAL = 1.0  # seconds between two writes
HEARTBEAT = 10.0  # seconds between two signs of life


@dataclass(frozen=True, config=ConfigDict(allow_inf_nan=False))
class JobProgress:
    """What the file holds.

    Args:
        total: units of work of the whole job; 0 before the first report.
        earlier: units that were done before this process began, of a fit that was resumed.
        best: lowest validation loss so far.
        started: when the job began, in seconds since 1970.
        process: its mark, see `pdebench_fm._util.processes`.
        seen: when the process was last alive.
    """

    done: int
    total: int
    unit: str
    best: float | None
    started: float
    updated: float
    host: str
    pid: int
    process: str = ""
    seen: float = 0.0
    earlier: int = 0

    @property
    def speed(self) -> float:
        """Share of the job that is done in a second; 0 if that is not known."""
        seconds = self.updated - self.started
        return (self.done - self.earlier) / self.total / seconds if self.total and seconds > 0 else 0.0


def read_progress(folder: Path) -> JobProgress | None:
    """Return the progress of the job in a folder, None if it does not run."""
    try:
        with (folder / FILE).open(encoding="utf-8") as file:
            return replace(JobProgress(**json.load(file)), seen=os.fstat(file.fileno()).st_mtime)
    except (OSError, ValueError, TypeError):
        return None


class ProgressFile:
    """Writes the progress of one job, at most once a second."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._started = time.time()
        self._written = 0.0
        self._earlier: int | None = None
        self._over = threading.Event()

    def begin(self) -> None:
        """Say that the job runs."""
        self._write(Progress(0, 0))
        threading.Thread(target=self._beat, daemon=True).start()

    def report(self, progress: Progress) -> None:
        """Write the progress, unless that was done a moment ago."""
        if self._earlier is None:
            self._earlier = max(int(progress.done) - 1, 0)
        if time.monotonic() - self._written >= _INTERVAL:
            self._write(progress)

    def end(self) -> None:
        """Say that the job does not run any more."""
        self._over.set()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            with suppress(OSError):  # it has just ended
                os.utime(self._path)

    def _write(self, progress: Progress) -> None:
        self._written = time.monotonic()
        said = JobProgress(
            done=int(progress.done),
            total=int(progress.total),
            unit=str(progress.unit),
            best=None if progress.best is None else float(progress.best),
            started=self._started,
            updated=time.time(),
            host=socket.gethostname(),
            pid=os.getpid(),
            process=mark(os.getpid()),
            earlier=self._earlier or 0,
        )
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(asdict(said)), encoding="utf-8")
