"""The file of records: one JSON object a line."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError

from pdebench_fm._util.text import one_line
from pdebench_fm.errors import RecordError, suggestion
from pdebench_fm.records.record import Record, TrialRecord

_BEGINNING = b'{"schema": '
"""Of every line that `Record.line` writes."""


def parse(text: str | bytes, where: str) -> Record:
    """Read one record.

    Args:
        text: one JSON object.
        where: starts the message of an error, e.g. ``records.jsonl:3``.

    Raises:
        RecordError: names the key and what was expected, on one line.
    """
    try:
        record = Record.model_validate_json(text, strict=True)
        json.loads(text, object_pairs_hook=_once)
    except ValidationError as error:
        raise RecordError(f"{where}: {_explain(error)}") from error
    except _TwiceError as error:
        raise RecordError(f"{where}: {error}") from None
    return record


class _TwiceError(Exception):
    """A key stands twice in one object: readers of JSON do not agree on which of them counts."""


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise _TwiceError(f"{_short(repr(twice))}: the key is given twice")


def append(path: Path, records: Iterable[Record]) -> None:
    """Append records to a file, whole lines or nothing.

    Writers take turns through a lock beside the file, so that records of two runs are never lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path):
        add(path, records)


def lock(path: Path) -> FileLock:
    """Return the lock that writers of a file of records hold."""
    return FileLock(f"{path}.lock")


def add(path: Path, records: Iterable[Record]) -> None:
    """Append records to a file whose `lock` is held; if that fails, e.g. on a full disk, the file stays as it was.

    A half-written last line, which a killed writer leaves, is removed.
    """
    lines = "".join(record.line() + "\n" for record in records).encode("ascii")
    if not lines:
        return
    with path.open("a+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if (tail := _tail(file, end)) and is_torn(tail):
            end = file.truncate(end - len(tail))
        elif tail:
            lines = b"\n" + lines
        try:
            while lines:
                lines = lines[file.write(lines) :]
        except BaseException:
            file.truncate(end)
            raise


def _tail(file: io.FileIO, end: int) -> bytes:
    """Return what comes after the last line ending; seldom more than nothing."""
    tail, start = b"", end
    while start and b"\n" not in tail:
        start = max(0, start - 2**16)
        file.seek(start)
        tail = file.read(end - start)
    return tail.rpartition(b"\n")[2]


def is_torn(line: bytes) -> bool:
    """Whether a last line without a line ending is half a record; editors leave whole ones, and anything else."""
    if line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def read(path: Path) -> list[Record]:
    """Read the latest record of each `Record.key`, in the order of their lines.

    Raises:
        RecordError: ``file:line: what`` for a malformed line, or the file cannot be read.
    """
    last: dict[Any, Record] = {}
    for _, record in read_lines(path):
        last.pop(record.key, None)  # a later record moves to the end
        last[record.key] = record
    return list(last.values())


def read_lines(path: Path) -> list[tuple[int, Record]]:
    """Read every record with its line number, counted from 1. Raises as `read` does."""
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

    Raises:
        RecordError: a folder has no records, or a line is malformed.
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
        return f"not a record: {_short(message)}"
    if first["type"] == "extra_forbidden":
        fields = TrialRecord.model_fields if first["loc"][0] == "trials" else Record.model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"{key}: unknown key{suggestion(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"{key}: must be given"
    if not key or isinstance(first["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {_short(repr(first['input']))}"


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= 100 else text[:99] + "…"
