"""The record files of a leaderboard: reading, adding, writing. All or nothing, and always the same bytes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from pdebench_fm._util.files import replacing
from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard.audit import Located, Verify, refusals, repeated
from pdebench_fm.leaderboard.evidence import errors_of
from pdebench_fm.records.errors import archive_of, write_archive
from pdebench_fm.records.file import collect, read_lines
from pdebench_fm.records.record import Record
from pdebench_fm.tables import arm_order, natural


class RefusedError(RecordError):
    """Records are rejected.

    Args:
        consequence: what was not done.
        refused: every reason, as ``file:line: why``. The message holds the first.
    """

    exit_code = 1  # the files can be read, but their contents have failed the check

    def __init__(self, consequence: str, refused: Sequence[str]) -> None:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        super().__init__(f"{consequence}: {refused[0]}{more}")
        self.refused = tuple(refused)


@dataclass(frozen=True)
class Report:
    """What `add` did, with a line for each record that is not new.

    Args:
        added: number of new records.
        replaced: failed records that now have an outcome.
        skipped: records that were already there.
        removed: records that ``replace`` removed.
    """

    added: int = 0
    replaced: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def relative_path(record: Record) -> Path:
    """Return where a record is kept, relative to the leaderboard's folder."""
    return Path("records", record.suite, record.profile, f"{record.model}.jsonl")


def order(record: Record) -> tuple[Any, ...]:
    """Sort key of the lines of a file. The seeds of one cell are neighbours."""
    kind = record.kind == "point"
    task = (natural(record.task), record.task)
    return (record.suite_version, kind, *task, arm_order(record.protocol), record.examples, record.seed, record.job_id)


def load(directory: Path) -> list[tuple[Path, int, Record]]:
    """Read all records of a leaderboard: (path relative to its folder, line, record), sorted by path.

    Raises:
        RecordError: a line is malformed.
    """
    paths = sorted((directory / "records").rglob("*.jsonl"), key=lambda path: path.as_posix())
    return [(path.relative_to(directory), line, record) for path in paths for line, record in read_lines(path)]


def located(directory: Path, stored: Iterable[tuple[Path, int, Record]]) -> list[Located]:
    """Return stored records with their places as text."""
    return [(f"{directory / path}:{line}", record) for path, line, record in stored]


def add(directory: Path, runs: Sequence[Path], verify: Verify | None = None, *, replace: bool = False) -> Report:
    """Add the records of finished runs. If one is rejected, none is written.

    A job that is already there is skipped if its outcome is the same, and replaces a failed one. Otherwise it is
    rejected.

    Args:
        directory: the leaderboard's folder; made if it does not exist.
        runs: records.jsonl files, or folders searched for them.
        verify: a further check, e.g. against the plans of the suites.
        replace: whether to remove records of the same suite, version, profile and model that are not in ``runs``,
            e.g. for a model's next version.

    Raises:
        RefusedError: a record is rejected.
        RecordError: a line of a file is malformed.
    """
    user = os.getuid() if hasattr(os, "getuid") else ""  # not by name: a container may know none
    with FileLock(Path(tempfile.gettempdir()) / f"pdefm-leaderboard-{user}.lock"):
        return _add(directory, runs, verify, replace)


def _add(directory: Path, runs: Sequence[Path], verify: Verify | None, replace: bool) -> Report:
    there = located(directory, load(directory))
    twice = [f"{where}: {what}" for where, what in repeated(there)]
    if twice:
        raise RefusedError("nothing added", twice)
    before = {record.key: (where, record) for where, record in there}
    incoming = collect(runs)
    kept, groups = {record.key for _, record in incoming}, {_group(record) for _, record in incoming}
    gone = {key for key, (_, old) in before.items() if replace and key not in kept and _group(old) in groups}
    stored = {key: known for key, known in before.items() if key not in gone}
    replaced, skipped, refused = [], [], []
    for where, record in incoming:
        known = stored.get(record.key)
        if known is None:
            stored[record.key] = (where, record)
        elif _same_outcome(known[1], record):
            skipped.append(f"{where}: already at {known[0]}")
        elif known[1].status == "failed":
            stored[record.key] = (where, record)
            replaced.append(f"{where}: replaces the failed one at {known[0]}")
        else:
            refused.append(f"{where}: the same job has another outcome at {known[0]}")
    refused.extend(refusals(stored.values(), verify))
    if refused:
        raise RefusedError("nothing added", refused)
    write(directory, stored.values())
    removed = [f"{where}: removed: {record.cell}" for key, (where, record) in before.items() if key in gone]
    return Report(len(stored.keys() - before.keys()), replaced, skipped, removed)


def _group(record: Record) -> tuple[str, int, str, str]:
    """Return the key of what is replaced together: the results of one model on one suite."""
    return (record.suite, record.suite_version, record.profile, record.model)


def _same_outcome(one: Record, other: Record) -> bool:
    """Whether two runs of a job agree: times and devices may differ, scores may not.

    Only metrics that both have are compared, because which there are depends on the installation.
    """
    if (one.status, one.cell, one.learning_rate) != (other.status, other.cell, other.learning_rate):
        return False
    shared = one.metrics.keys() & other.metrics.keys()
    agree = all((one.metrics[m], one.interval.get(m)) == (other.metrics[m], other.interval.get(m)) for m in shared)
    return agree and (bool(shared) or one.status != "ok")


def write(directory: Path, records: Iterable[Located]) -> None:
    """Write records to their files, in order, with the errors found beside them. Unchanged files are not touched."""
    files: dict[Path, list[Located]] = {}
    for where, record in records:
        files.setdefault(directory / relative_path(record), []).append((where, record))
    contents: dict[Path, bytes] = {}
    for path, lines in sorted(files.items()):
        ordered = sorted((record for _, record in lines), key=order)
        contents[path] = "".join(record.line() + "\n" for record in ordered).encode("utf-8")
        jobs = {where: record.job_id for where, record in lines}
        if kept := {jobs[where]: errors for where, errors in errors_of(lines).items()}:
            contents[archive_of(path)] = write_archive(kept)
    write_files(contents)


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write files: first all of them to temporary files, and then, if none failed, into their places."""
    with ExitStack() as stack:
        for path, content in contents.items():
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(replacing(path)).write_bytes(content)
