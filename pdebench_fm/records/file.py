"""The file of records: one JSON object a line."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from pdebench_fm._util.plain import first_problem
from pdebench_fm._util.text import one_line, printable
from pdebench_fm.errors import RecordError
from pdebench_fm.records.record import Record, TrialRecord

_BEGINNING = b'{"schema": '
"""Of every line that `Record.line` writes."""


def parse(text: str | bytes, where: str) -> Record:
    """Read one record.

    Args:
        where: starts the message of an error, e.g. ``records.jsonl:3``.
    """
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecordError(f"{where}: {_explain(error)}") from error


def lock(path: Path) -> FileLock:
    """Return the lock that writers of a file of records hold."""
    return FileLock(f"{path}.lock")


def is_torn(line: bytes) -> bool:
    """Whether a line is half a record, of a writer that was killed or is writing now."""
    if line.endswith(b"\n") or line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def add(path: Path, record: Record, end: int) -> int:
    """Append a record to a file whose `lock` is held, and return the new size of the file.

    If that fails, e.g. on a full disk, the file stays as it was.

    Args:
        end: how far the file has been read. Half a line behind it is removed, a whole last one ended.
    """
    rest = f"{record.line()}\n".encode("ascii")
    with path.open("a+b", buffering=0) as file:
        file.seek(max(0, end - 1))
        last, behind = file.read(min(end, 1)), file.read()
        if behind and b"\n" not in behind:  # otherwise it is another writer's, where locks do not work
            file.truncate(end)
        if last not in (b"", b"\n"):
            rest = b"\n" + rest
        end = file.seek(0, os.SEEK_END)
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            file.truncate(end)
            raise
        return file.tell()


def read_lines(path: Path) -> list[tuple[str, Record]]:
    """Read every record with its place, ``file:line``; lines are counted from 1."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    # Some editors put a byte-order mark in front, and joined files have several.
    texts = ((f"{path}:{number}", line.removeprefix(codecs.BOM_UTF8)) for number, line in enumerate(lines, start=1))
    return [(where, parse(text, where)) for where, text in texts]


def file_of(where: str) -> Path:
    """Return the file of a place, ``file:line``."""
    return Path(where.rpartition(":")[0])


def jobs_of(records: Path) -> Path:
    """Return the folder of the jobs behind a run's file of records, which is ``OUTPUT/SUITE/MODEL/records.jsonl``."""
    return records.absolute().parent.parent.parent / "jobs"


def collect(runs: Iterable[Path]) -> list[tuple[str, Record]]:
    """Read the latest record of each place from finished runs.

    Args:
        runs: record files, or folders searched for ``records.jsonl``. If a folder has none, every ``*.jsonl`` in it
            is read, as on a leaderboard. Within a file, the last line of a `Record.place` counts.

    Returns:
        ``file:line`` and record, in the order of the lines.
    """
    found: list[tuple[str, Record]] = []
    for run in runs:
        files = _files(run) if run.is_dir() else [run]
        if not files:
            raise RecordError(f"{run}: holds no records.jsonl")
        for file in files:
            found.extend({record.place: (where, record) for where, record in read_lines(file)}.values())
    return found


def tell_apart(found: Sequence[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """Name models with their folders, e.g. ``unet (monday)``, where two files have different results at one place."""
    files = [file_of(where) for where, _ in found]
    places: dict[object, dict[Path, Record]] = {}
    for file, (_, record) in zip(files, found, strict=True):
        places.setdefault(record.place, {})[file] = record
    twice = {
        place: by_file
        for place, by_file in places.items()
        if len({(record.job_id, *record.metrics.values()) for record in by_file.values()}) > 1
    }
    if not twice:
        return list(found)
    models = {record.model for by_file in twice.values() for record in by_file.values()}
    names = _short({file for by_file in twice.values() for file in by_file})
    return [
        (where, record.model_copy(update={"model": f"{record.model} ({names[file]})"}))
        if record.model in models and file in names
        else (where, record)
        for file, (where, record) in zip(files, found, strict=True)
    ]


def _short(files: Collection[Path]) -> dict[Path, str]:
    """Return what tells paths apart, without the parts that all of them begin or end with."""
    common = os.path.commonpath(files)
    parts = {file: file.relative_to(common).parts for file in files}
    while len({path[-1] for path in parts.values()}) == 1 and all(len(path) > 1 for path in parts.values()):
        parts = {file: path[:-1] for file, path in parts.items()}
    return {file: "/".join(path) for file, path in parts.items()}


def _files(folder: Path) -> list[Path]:
    """List the record files in a folder, leaving out what jobs keep for themselves."""
    every: list[Path] = []
    for parent, below, names in os.walk(folder):
        here = Path(parent).absolute()
        if here.name == "jobs":  # not entered, because there may be very many
            below[:] = [name for name in below if not re.fullmatch("[0-9a-f]{64}", name)]
        own = {"history.jsonl"} if here.parent.name == "jobs" else set()  # of a fit
        every += [Path(parent, name) for name in names if name.endswith(".jsonl") and name not in own]
    return sorted(path for path in every if path.name == "records.jsonl") or sorted(every)


def _explain(error: ValidationError) -> str:
    """Return the first error as one line: the key, what was expected, what was given."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"not a record: {printable(one_line(first['msg']), 100)}"
    fields = TrialRecord.model_fields if first["loc"][:1] == ("trials",) else Record.model_fields
    return first_problem(error, keys=[field.alias or name for name, field in fields.items()])
