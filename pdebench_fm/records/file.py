"""The file of records: one JSON object a line."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock
from pydantic import ValidationError

from pdebench_fm._util.text import one_line, printable
from pdebench_fm.errors import RecordError, suggestion
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


def read_lines(path: Path) -> list[tuple[int, Record]]:
    """Read every record with its line number, counted from 1."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    # Some editors put a byte-order mark in front, and joined files have several.
    texts = (line.removeprefix(codecs.BOM_UTF8) for line in lines)
    return [(number, parse(text, f"{path}:{number}")) for number, text in enumerate(texts, start=1)]


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
            latest = {record.place: (f"{file}:{line}", record) for line, record in read_lines(file)}
            found.extend(latest.values())
    return found


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
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    if first["type"] == "json_invalid":
        return f"not a record: {printable(one_line(message), 100)}"
    if first["type"] == "extra_forbidden":
        fields = TrialRecord.model_fields if first["loc"][0] == "trials" else Record.model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"{key}: unknown key{suggestion(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"{key}: must be given"
    if not key or isinstance(first["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {printable(one_line(repr(first['input'])), 100)}"
