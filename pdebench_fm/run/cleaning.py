"""What can be deleted from a folder of results."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pdebench_fm.plan.store import JobStore
from pdebench_fm.run.progress import FILE, read_progress
from pdebench_fm.run.status import is_alive

_ABANDONED = 3600.0  # seconds after which a file that is being written is left over


@dataclass(frozen=True)
class Deletable:
    """A file or folder that can be deleted.

    Args:
        useful: whether later runs would use it, and otherwise fit again.
    """

    path: Path
    what: str
    size: int
    useful: bool = False


def deletable(output: Path) -> Iterator[Deletable]:
    """Yield what can be deleted under a folder of results; results and records are never among it."""
    jobs = [folder for folder in (output / "jobs").glob("*") if folder.is_dir()]
    chosen, tried = _choices(JobStore(output), jobs)
    for folder in jobs:
        progress = read_progress(folder)
        if progress is not None and (progress.host != socket.gethostname() or is_alive(progress)):
            continue  # it runs, or may run on another machine
        yield from _file(folder / FILE, "signs of life of processes that are gone")
        yield from _file(folder / "result.damaged.json", "damaged results that were made again")
        if folder.name in chosen:
            yield from _folder(folder / "model", "weights that points chose", useful=True)
        elif folder.name in tried:  # the weights of other trials may still be chosen
            yield from _folder(folder / "model", "weights that no point chose")
        yield from _folder(folder / "model.tmp", "weights that were not completed")
        if (folder / "result.json").exists():
            yield from _folder(folder / "workspace", "state of ended fits")
        else:
            yield from _folder(folder / "workspace", "state of interrupted fits", useful=True)
    for path in output.rglob(".*.partial"):
        if time.time() - path.stat().st_mtime > _ABANDONED:
            yield Deletable(path, "files that were not completed", path.stat().st_size)


def _choices(store: JobStore, jobs: Iterable[Path]) -> tuple[set[str], set[str]]:
    """Return the ids of the trials that points chose, and of those they chose among."""
    chosen, tried = set(), set()
    for folder in jobs:
        result = store.result(folder.name)
        if result is not None and result.get("chosen"):
            chosen.add(result["chosen"])
            tried |= set(result.get("trials", ()))
    return chosen, tried


def _file(path: Path, what: str) -> Iterator[Deletable]:
    """Yield a file if it is there."""
    if path.is_file():
        yield Deletable(path, what, path.stat().st_size)


def _folder(path: Path, what: str, *, useful: bool = False) -> Iterator[Deletable]:
    """Yield a folder if it is there."""
    if path.is_dir():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        yield Deletable(path, what, size, useful)
