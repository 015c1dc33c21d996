"""The files of a leaderboard's records: reading, admitting, writing. All or nothing, and always the same bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from pdebench_fm._util.files import replacing
from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard.audit import Located, Verify, refusals, repeated
from pdebench_fm.records.file import collect, read_lines
from pdebench_fm.records.record import Record
from pdebench_fm.tables import arm_order, natural


class RefusedError(RecordError):
    """Records cannot stand on the leaderboard.

    Args:
        consequence: what was not done.
        refused: every reason, as ``file:line: why``; the error's own text holds the first.
    """

    exit_code = 1  # the files can be read; what they say has failed the check

    def __init__(self, consequence: str, refused: Sequence[str]) -> None:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        super().__init__(f"{consequence}: {refused[0]}{more}")
        self.refused = tuple(refused)


@dataclass(frozen=True)
class Report:
    """What `add` did, as lines that name each record.

    Args:
        added: how many records are new.
        replaced: failed records that now have an outcome.
        skipped: records that were there already, with the same score.
        removed: records that gave way, with ``replace``.
    """

    added: int = 0
    replaced: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def relative_path(record: Record) -> Path:
    """Return where a record is kept, relative to the leaderboard's folder."""
    return Path("records", record.suite, record.profile, f"{record.model}.jsonl")


def order(record: Record) -> tuple[Any, ...]:
    """Sort key of the lines of a file; the seeds of one cell are neighbours."""
    kind = record.kind == "point"
    task = (natural(record.task), record.task)
    return (record.suite_version, kind, *task, arm_order(record.protocol), record.examples, record.seed, record.job_id)


def load(directory: Path) -> list[tuple[Path, int, Record]]:
    """Read all records of a leaderboard: (path relative to its folder, line, record), sorted by path.

    Raises:
        RecordError: a line is no record.
    """
    paths = sorted((directory / "records").rglob("*.jsonl"), key=lambda path: path.as_posix())
    return [(path.relative_to(directory), line, record) for path in paths for line, record in read_lines(path)]


def located(directory: Path, stored: Iterable[tuple[Path, int, Record]]) -> list[Located]:
    """Return stored records with their places as text."""
    return [(f"{directory / path}:{line}", record) for path, line, record in stored]


def add(directory: Path, runs: Sequence[Path], verify: Verify | None = None, *, replace: bool = False) -> Report:
    """Admit the records of finished runs; where one is refused, none is written.

    The same job again is skipped where its outcome is the same, and replaces a failed one; otherwise it is refused.

    Args:
        directory: the leaderboard's folder; made where it does not exist.
        runs: records.jsonl files, or folders searched for them.
        verify: a further check, e.g. against the plans of the suites named.
        replace: whether what is there of the same suite, version, profile and model, and not in ``runs``, gives way,
            e.g. to the results of a model's next version. The same job with another outcome stays refused.

    Raises:
        RefusedError: some record cannot stand on the leaderboard.
        RecordError: a line of a file is no record.
    """
    with _alone():
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
    write(directory, [record for _, record in stored.values()])
    removed = [f"{where}: gave way: {_name(record)}" for key, (where, record) in before.items() if key in gone]
    return Report(len(stored.keys() - before.keys()), replaced, skipped, removed)


def _name(record: Record) -> str:
    """Say which result a record is; the line it had is another's by then."""
    cell = record.cell
    return f"{cell.task} · {cell.protocol} · N={cell.examples} · seed {cell.seed}"


def _group(record: Record) -> tuple[str, int, str, str]:
    """Return what is replaced together: the results of one model on one suite."""
    return (record.suite, record.suite_version, record.profile, record.model)


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time: who reads records and writes them back must not miss those that come in between.

    The lock lies in the temporary folder, since the leaderboard's own may not be there yet, and is not to hold it. Each
    user has one, for all leaderboards: another user's could not be opened there.
    """
    user = hashlib.sha256(os.fsencode(Path.home())).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"pdefm-leaderboard-{user}.lock"):
        yield


def _same_outcome(one: Record, other: Record) -> bool:
    """Whether what was scored agrees where a job was run twice.

    Times and devices may differ, floating-point scores may not. Of the metrics those count that both have: which there
    are depends on what is installed.
    """
    if (one.status, one.cell, one.learning_rate) != (other.status, other.cell, other.learning_rate):
        return False
    shared = one.metrics.keys() & other.metrics.keys()
    agree = all((one.metrics[m], one.interval.get(m)) == (other.metrics[m], other.interval.get(m)) for m in shared)
    return agree and (bool(shared) or one.status != "ok")


def write(directory: Path, records: Iterable[Record]) -> None:
    """Write records to their files in their order; a file that would not change is left alone."""
    files: dict[Path, list[Record]] = {}
    for record in records:
        files.setdefault(relative_path(record), []).append(record)
    texts = {}
    for path, lines in sorted(files.items()):
        texts[directory / path] = "".join(record.line() + "\n" for record in sorted(lines, key=order))
    write_files(texts)


def write_files(texts: Mapping[Path, str]) -> None:
    """Write files: all of them beside their places first, and only then, where none failed, into these.

    Raises:
        OSError: one could not be written; the others are as they were, and no new folder is left. (Only moving a whole
            file into its place is left then; where even that fails, some are new and some old, none half.)
    """
    made: list[Path] = []
    try:
        with ExitStack() as stack:
            for path, text in texts.items():
                content = text.encode("utf-8")
                if path.is_file() and path.read_bytes() == content:
                    continue
                _make_folder(path.parent, made)
                stack.enter_context(replacing(path)).write_bytes(content)
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):  # somebody else has put something there
                folder.rmdir()
        raise


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and note each that was missing, the outermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        made.append(path)
