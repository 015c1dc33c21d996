"""Files of JSON lines on a leaderboard: read them, write them, and check that they are where and as we write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.plain import Line, first_problem
from pdebench_fm.errors import RecordError
from pdebench_fm.records.errors import archive_of
from pdebench_fm.records.file import file_of

_Line = TypeVar("_Line", bound=Line)

Place = Callable[[_Line], tuple[Path, Any]]
"""Line → its file, relative to the leaderboard's folder, and a sort key within it."""


def read(folder: Path, model: type[_Line]) -> list[tuple[str, _Line]]:
    """Read every line of every ``*.jsonl`` in a folder, with ``file:line``."""
    found = []
    for path in sorted(folder.rglob("*.jsonl"), key=lambda path: path.as_posix()):
        for number, line in enumerate(path.read_bytes().splitlines(), start=1):
            try:
                found.append((f"{path}:{number}", model.model_validate_json(line)))
            except ValidationError as error:
                raise RecordError(f"{path}:{number}: {first_problem(error, 'line')}") from None
    return found


def contents(directory: Path, lines: Iterable[_Line], place: Place[_Line]) -> dict[Path, bytes]:
    """Return the files of lines, in order: path → content."""
    placed = sorted(((place(line), line) for line in lines), key=lambda one: one[0])
    files = grouped(placed, lambda one: directory / one[0][0])
    return {path: "".join(f"{line.line()}\n" for _, line in ones).encode("ascii") for path, ones in files.items()}


def misplaced(directory: Path, folder: str, located: Iterable[tuple[str, _Line]], place: Place[_Line]) -> Iterator[str]:
    """Yield the lines of a folder that are not where and as we would write them, and files without any.

    Args:
        located: every line, with ``file:line``.
    """
    before: tuple[Path, Any] | None = None
    texts: dict[Path, list[str]] = {}
    for where, line in located:
        here = place(line)
        file = file_of(where)
        texts.setdefault(file, []).append(f"{line.line()}\n")
        if file != directory / here[0]:
            yield f"{where}: belongs in {directory / here[0]}"
        elif before is not None and before[0] == here[0] and before[1] >= here[1]:
            yield f"{where}: is out of order, or there twice"
        before = here
    for file in sorted((directory / folder).rglob("*")):
        if file in texts:  # e.g. a key given twice: readers of JSON differ on which one counts
            if (number := first_difference(file.read_bytes(), "".join(texts[file]).encode("ascii"))) is not None:
                yield f"{file}:{number}: is not as pdefm leaderboard writes it"
        elif file.is_file() and not file.name.startswith(".") and file not in map(archive_of, texts):
            yield f"{file}: holds no record"


def first_difference(ours: bytes, theirs: bytes) -> int | None:
    """Return the first line that differs, counted from 1; None if all are equal."""
    if ours == theirs:
        return None
    a, b = ours.split(b"\n"), theirs.split(b"\n")
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False), 1) if x != y), min(len(a), len(b)) + 1)
