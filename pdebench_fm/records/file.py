"""The file that records are kept in: one JSON object a line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError

from pdebench_fm._util.text import one_line
from pdebench_fm.errors import RecordError, suggestion
from pdebench_fm.records.record import SCHEMA, Record, TrialRecord


def parse(text: str, where: str) -> Record:
    """Read one record.

    Args:
        text: one JSON object.
        where: what errors begin with, e.g. ``records.jsonl:3``.

    Raises:
        RecordError: one line that names the key and what was expected.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: not a record: {_short(error)}") from error
    if not isinstance(data, dict):
        raise RecordError(f"{where}: a record must be a JSON object, got {_short(data)}")
    if type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        raise RecordError(f"{where}: schema: must be {SCHEMA}, got {_short(data.get('schema'))}")
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecordError(f"{where}: {_explain(error)}") from error


def append(path: Path, records: Iterable[Record]) -> None:
    """Append records, each as one line, so that neither a second writer nor a kill can damage an earlier line.

    Writers take turns by a lock beside the file (``records.jsonl.lock``). Half a line of a killed writer is removed.

    Raises:
        RecordError: the last line has no line ending and is neither a record nor half of one; nothing is written then.
    """
    text = "".join(record.line() + "\n" for record in records)
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"), open(path, "a+b") as file:
        _mend_end(file.fileno(), path)
        file.write(text.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """Read the records that count: the last of each `Record.key`, in the order of their lines.

    A last line without its line ending may be what a killed writer left: the beginning of a JSON object. Half an object
    is ignored, and nothing else.

    Raises:
        RecordError: ``file:line: what`` for any other line that is no record, or for a file that cannot be read.
    """
    last: dict[Any, Record] = {}
    for _, record in read_lines(path):
        last.pop(record.key, None)  # so that it moves to the end: what was written last is the newest
        last[record.key] = record
    return list(last.values())


def read_lines(path: Path) -> list[tuple[int, Record]]:
    """Read every record with the number of its line, counted from 1; raises as `read` does."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and (not line or _is_half(line)):
            break
        found.append((number, _parse_line(line, f"{path}:{number}")))
    return found


def _parse_line(line: bytes, where: str) -> Record:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: not a record: {error}") from error
    return parse(text, where)


def collect(runs: Iterable[Path]) -> list[tuple[str, Record]]:
    """Read the newest record of each place from finished runs.

    Args:
        runs: files of records, or folders that are searched for records.jsonl, and if there is none, for any
            ``*.jsonl``, as a leaderboard keeps them. Within one file the last line of a `Record.place` counts, so that
            what was run again after a change is shown as it is now.

    Returns:
        ``file:line`` and record, in the order of the lines.

    Raises:
        RecordError: a path is neither, a folder holds no records, or a line is no record.
    """
    found: list[tuple[str, Record]] = []
    for run in runs:
        files = _files(run) if run.is_dir() else [run]
        if not files:
            raise RecordError(f"{run}: holds no records.jsonl")
        for file in files:
            newest = {record.place: (f"{file}:{line}", record) for line, record in read_lines(file)}
            found.extend(newest.values())
    return found


def _files(folder: Path) -> list[Path]:
    """Return the files of records in a folder; a run's jobs keep other lines of JSON, the histories of their fits."""
    every = sorted(path for path in folder.rglob("*.jsonl") if not _of_a_job(path))
    return [path for path in every if path.name == "records.jsonl"] or every


def _of_a_job(path: Path) -> bool:
    """Whether a file lies in a run's ``jobs/<id>/``: the history of a fit, or what somebody's model has written."""
    parts = path.absolute().parts
    if (path.name, parts[-3:-2]) == ("history.jsonl", ("jobs",)):
        return True
    return any(folder == "jobs" and re.fullmatch("[0-9a-f]{64}", name) for folder, name in pairwise(parts))


def _mend_end(descriptor: int, path: Path) -> None:
    """Make the file end with a line ending: complete a whole last line, drop half a one. Called under the lock."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    start, number = content.rfind(b"\n") + 1, content.count(b"\n") + 1
    if _is_half(content[start:]):
        os.ftruncate(descriptor, start)
    else:  # refused where it is no record, so that nothing somebody else wrote is removed or buried
        _parse_line(content[start:], f"{path}:{number}")
        os.write(descriptor, b"\n")


def _is_half(line: bytes) -> bool:
    """Whether a line may be what a killed writer left of a record: the beginning of an object, and not all of one."""
    line = line.rstrip(b"\0")  # what some file systems leave of a write that a power cut met
    try:
        json.JSONDecoder().raw_decode(line.decode("ascii"))
    except json.JSONDecodeError as error:
        begun = line == b"{" or line.startswith(b'{"')
        # What stops the parser of half a line is its end, perhaps amid a text, number or word; all else is a slip.
        return begun and (
            error.msg.startswith("Unterminated string") or _CUT.fullmatch(error.doc, error.pos) is not None
        )
    except (UnicodeDecodeError, RecursionError):  # never written here
        return False
    return False


_CUT = re.compile(r"|-|\.|[eE][+-]?|t|tr|tru|f|fa|fal|fals|n|nu|nul|u[0-9a-f]{0,4}")
"""What the parser may find of a number, a word or an escaped character that was cut."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"numbers must be finite, got {name}")


def _explain(error: ValidationError) -> str:
    """Return the first thing that is wrong as one line: the key, what was expected, what came."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = TrialRecord.model_fields if first["loc"][0] == "trials" else Record.model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"{key}: unknown key{suggestion(str(first['loc'][-1]), known)}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    if first["type"] == "missing":
        return f"{key}: must be there"
    if not key or isinstance(first["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {_short(first['input'])}"


def _short(value: object) -> str:
    text = one_line(value if isinstance(value, Exception) else repr(value))
    return text if len(text) <= 100 else text[:99] + "…"
