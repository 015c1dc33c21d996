"""The record files of a leaderboard: reading, adding, writing. All or nothing, and always the same bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from pdebench_fm._util.files import replacing
from pdebench_fm._util.grouping import grouped
from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard.audit import NO_RULES, Located, Rules, refusals, repeated
from pdebench_fm.leaderboard.cards import card_path, cards_in, read_card
from pdebench_fm.leaderboard.confirmations import FOLDER, Confirmation, confirmation, is_copy
from pdebench_fm.leaderboard.confirmations import place as place_of_confirmation
from pdebench_fm.leaderboard.evidence import errors_of
from pdebench_fm.leaderboard.lines import contents, read
from pdebench_fm.records.errors import archive_of, write_archive
from pdebench_fm.records.file import collect, read_lines
from pdebench_fm.records.record import Record
from pdebench_fm.tables.wording import arm_order, natural

RECORDS = "records"


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
        replaced: failed records that now have an outcome.
        removed: records that ``replace`` removed.
        confirming: second measurements of jobs that were there.
        cards: files of model cards that are new or changed.
    """

    added: int = 0
    replaced: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    confirming: list[str] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return one line, e.g. ``12 added, 1 replaced, 3 already there``."""
        also = {"confirming": len(self.confirming), "removed": len(self.removed)}
        parts = [f"{self.added} added", f"{len(self.replaced)} replaced", f"{len(self.skipped)} already there"]
        return ", ".join([*parts, *(f"{count} {what}" for what, count in also.items() if count)])


def place(record: Record) -> tuple[Path, tuple[Any, ...]]:
    """Return the file that keeps a record, relative to the leaderboard's folder, and a sort key within it.

    The seeds of one cell are neighbours.
    """
    arm = (natural(record.task), arm_order(record.protocol))
    key = (record.suite_version, record.kind == "point", *arm, record.examples, record.seed, record.job_id)
    return Path(RECORDS, record.suite, record.profile, f"{record.model}.jsonl"), key


def load(directory: Path) -> list[Located]:
    """Read all records of a leaderboard, sorted by path."""
    paths = sorted((directory / RECORDS).rglob("*.jsonl"), key=lambda path: path.as_posix())
    return [one for path in paths for one in read_lines(path)]


def add(
    directory: Path,
    runs: Sequence[Path],
    rules: Rules = NO_RULES,
    *,
    replace: bool = False,
    cards: Sequence[Path] = (),
) -> Report:
    """Add the records of finished runs. If one is rejected, none is written.

    The first result of a job stays, unless it failed. A second measurement is kept beside it as a confirmation, and a
    copy of one that is there is skipped.

    Args:
        runs: records.jsonl files, or folders searched for them.
        replace: whether to remove records of the same suite, version, profile and model that are not in ``runs``,
            e.g. for a model's next version.
        cards: model cards. Those in a folder ``cards/`` of a run, as in a bundle, are added too.
    """
    user = os.getuid() if hasattr(os, "getuid") else ""  # not by name: a container may know none
    board = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    with FileLock(Path(tempfile.gettempdir()) / f"pdefm-leaderboard-{user}-{board}.lock"):
        return _add(directory, runs, rules, replace, [*cards, *(card for run in runs for card in cards_in(run))])


def _add(directory: Path, runs: Sequence[Path], rules: Rules, replace: bool, cards: Sequence[Path]) -> Report:
    there = load(directory)
    twice = [f"{where}: {what}" for where, what in repeated(there)]
    if twice:
        raise RefusedError("nothing added", twice)
    before = {record.key: (where, record) for where, record in there}
    incoming = collect(runs)
    kept, groups = {record.key for _, record in incoming}, {_group(record) for _, record in incoming}
    gone = {key for key, (_, old) in before.items() if replace and key not in kept and _group(old) in groups}
    stored = {key: known for key, known in before.items() if key not in gone}
    confirmed = [(where, one) for where, one in read(directory / FOLDER, Confirmation) if one.key not in gone]
    seconds: list[Located] = []
    report = Report()
    refused: list[str] = []
    for where, record in incoming:
        known = stored.get(record.key)
        if known is None:
            stored[record.key] = (where, record)
        elif at := _copied(record, [known, *(other for other in confirmed if other[1].key == record.key)]):
            report.skipped.append(f"{where}: already at {at}")
        elif record.status == "failed":
            report.skipped.append(f"{where}: it failed, so it says nothing about {known[0]}")
        elif known[1].status == "failed":
            stored[record.key] = (where, record)
            report.replaced.append(f"{where}: replaces the failed one at {known[0]}")
        elif "unsupported" in (record.status, known[1].status):
            refused.append(f"{where}: is {record.status}, but the same job is {known[1].status} at {known[0]}")
        else:
            seconds.append((where, record))
            confirmed.append((where, confirmation(known[1], record)))
            report.confirming.append(_confirming(where, known, confirmed[-1][1]))
    refused.extend(refusals(stored.values(), rules))
    refused.extend(line for line in _refused_seconds(stored, seconds, rules) if line not in refused)
    if refused:
        raise RefusedError("nothing added", refused)
    records = [record for _, record in stored.values()]
    card_files = {card_path(directory, read_card(path, records).model): path.read_bytes() for path in cards}
    report.cards.extend(str(file) for file, new in card_files.items() if not file.is_file() or file.read_bytes() != new)
    write(directory, stored.values(), (one for _, one in confirmed), card_files)
    removed = [f"{where}: removed: {record.cell}" for key, (where, record) in before.items() if key in gone]
    return dataclasses.replace(report, added=len(stored.keys() - before.keys()), removed=removed)


def _copied(record: Record, known: Iterable[tuple[str, Record | Confirmation]]) -> str:
    """Return where the same measurement is already; empty if nowhere."""
    return next((where for where, other in known if is_copy(other, record)), "")


def _confirming(where: str, known: Located, made: Confirmation) -> str:
    if made.difference is None:
        return f"{where}: is {made.status}, {known[0]} is {known[1].status}; kept beside it"
    return f"{where}: confirms {known[0]}, {made.difference:.2g} apart"


def _refused_seconds(stored: Mapping[Any, Located], seconds: Sequence[Located], rules: Rules) -> Iterator[str]:
    """Yield what is wrong with second measurements, each in the place of the first among its model's results."""
    rest = list(seconds)
    while rest:
        layer = {record.key: (where, record) for where, record in reversed(rest)}  # the first of each job
        rest = [(where, record) for where, record in rest if layer[record.key][0] != where]
        groups = {_group(record) for _, record in layer.values()}
        yield from refusals([layer.get(k, known) for k, known in stored.items() if _group(known[1]) in groups], rules)


def _group(record: Record) -> tuple[str, int, str, str]:
    """Return the key of what is replaced together: the results of one model on one suite."""
    return (record.suite, record.suite_version, record.profile, record.model)


def write(
    directory: Path, records: Collection[Located], confirmed: Iterable[Confirmation], others: Mapping[Path, bytes]
) -> None:
    """Write records to their files, in order, with the errors found beside them, and confirmations to theirs.

    Unchanged files are not touched.
    """
    files = contents(directory, (record for _, record in records), place)
    files |= contents(directory, confirmed, place_of_confirmation)
    for path, lines in grouped(records, lambda one: directory / place(one[1])[0]).items():
        if kept := errors_of(lines):
            files[archive_of(path)] = write_archive(kept)
    write_files({**files, **others})
    for path in (directory / FOLDER).rglob("*.jsonl"):  # of results that were removed
        if path not in files:
            path.unlink()


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files: first all of them to temporary files, and then, if none failed, into their places."""
    with ExitStack() as stack:
        for path, content in files.items():
            if not path.is_file() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(replacing(path)).write_bytes(content)
