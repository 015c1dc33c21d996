"""Second measurements of jobs on the board: ``confirmations/<suite>/<profile>/<model>.jsonl``, one a line.

The first result ranks. A later one says where it ran and how far it is from the first. If it is further away than the
spread for what was repeated, it is flagged and confirms nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.plain import Line
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard.lines import misplaced
from pdebench_fm.records.record import Cell, FileName, JobId, Name, Record, Text, Whole

FOLDER = "confirmations"

SCORED_AGAIN = 1e-5
"""Spread of what takes no training, on one kind of device: largest relative difference of two scores."""
RETRAINED = 0.03
"""Spread after training, or on another kind of device: training amplifies rounding differences."""

Key = tuple[Any, ...]
"""`Record.key`: the place of a result and its job."""


class Confirmation(Line):
    """Another measurement of a job that the board has.

    Args:
        status: ``diverged`` has no metrics.
        learning_rate: of the trial that it chose, which may be another one.
        metrics: its scores.
        difference: of the main score from the one that ranks, relative; None if one of the two diverged.
        device: what it ran on, with ``threads``, ``versions`` and ``commit``.
    """

    suite: FileName
    suite_version: PositiveInt
    profile: FileName
    kind: Literal["point", "pretraining"]
    model: FileName
    task: Name
    protocol: FileName
    examples: Whole
    seed: NonNegativeInt
    job_id: JobId
    status: Literal["ok", "diverged"]
    learning_rate: PositiveFloat | None
    metrics: dict[Name, FiniteFloat]
    difference: NonNegativeFloat | None
    device: Text
    threads: NonNegativeInt
    versions: dict[Name, Text]
    commit: Text | None

    @property
    def key(self) -> Key:
        """`Record.key` of the result that it repeats."""
        cell = Cell(self.task, self.protocol, self.examples, self.seed)
        return (self.suite, self.suite_version, self.profile, self.kind, self.model, cell, self.job_id)


def confirmation(first: Record, second: Record) -> Confirmation:
    """Return the confirmation that a second record of a job is."""
    values = {name: getattr(second, name) for name in Confirmation.model_fields if name != "difference"}
    return Confirmation(**values, difference=difference(first, second))


def difference(first: Record, second: Record | Confirmation) -> float | None:
    """Return how far the main scores are apart, relative to the first: 0 if both diverged, None if one of them did."""
    if first.status == second.status == "diverged":
        return 0.0
    if not first.metrics.get(SCORE) or SCORE not in second.metrics:
        return None
    found = abs(second.metrics[SCORE] / first.metrics[SCORE] - 1)
    return found if math.isfinite(found) else None


def is_copy(one: Record | Confirmation, other: Record | Confirmation) -> bool:
    """Whether two measurements cannot be told apart: the same scores to the bit, device, threads and software.

    Only metrics that both have are compared, because which there are depends on the installation.
    """
    if (one.status, one.learning_rate, _where(one)) != (other.status, other.learning_rate, _where(other)):
        return False
    shared = one.metrics.keys() & other.metrics.keys()
    return all(one.metrics[m] == other.metrics[m] for m in shared) and (bool(shared) or one.status != "ok")


def _where(one: Record | Confirmation) -> tuple[object, ...]:
    software = {name: version for name, version in one.versions.items() if not name.startswith("metric ")}
    return (one.device, one.threads, software)


@dataclass(frozen=True)
class Confirmed:
    """What second measurements say of one model on one suite and profile.

    Args:
        by: how many agree on the result that fewest agree on.
        agreed: results that at least one agrees on.
        of: results with a score.
        apart: measurements beyond the spread.
    """

    by: int = 0
    agreed: int = 0
    of: int = 0
    apart: int = 0

    def __str__(self) -> str:
        """Return e.g. ``2``, ``39 of 40 results, 1 apart`` or ``–``."""
        agreed = (
            str(self.by) if self.by else f"{self.agreed} of {self.of} results" if self.agreed or self.apart else "–"
        )
        return f"{agreed}, {self.apart} apart" if self.apart else agreed


@dataclass(frozen=True)
class Confirmations:
    """All confirmations of a leaderboard, by the key of what they repeat."""

    by_key: Mapping[Key, Sequence[Confirmation]]
    trained: frozenset[str]

    @classmethod
    def of(cls, found: Iterable[Confirmation], records: Iterable[Record]) -> Confirmations:
        """Group them. The records say which pre-trainings took gradient steps."""
        return cls(grouped(found, lambda one: one.key), frozenset(record.job_id for record in records if record.steps))

    def of_record(self, record: Record) -> list[tuple[Confirmation, bool]]:
        """Return the confirmations of a record, each with whether it is beyond the spread."""
        found = self.by_key.get(record.key, ())
        return [(one, one.difference is None or one.difference > self._spread(record, one)) for one in found]

    def _spread(self, record: Record, one: Confirmation) -> float:
        steps = bool(record.steps) or record.job_id in self.trained or record.pretrain_job_id in self.trained
        return RETRAINED if steps or one.device != record.device else SCORED_AGAIN

    def summary(self, records: Iterable[Record]) -> Confirmed:
        """Return what they say of the records of one model on one suite and profile."""
        scored = [record for record in records if record.status == "ok"]
        apart = [[far for _, far in self.of_record(record)] for record in scored]
        agreeing = [len(flags) - sum(flags) for flags in apart]
        return Confirmed(
            by=min(agreeing, default=0),
            agreed=sum(map(bool, agreeing)),
            of=len(scored),
            apart=sum(map(sum, apart)),
        )


NONE = Confirmations({}, frozenset())


def place(one: Confirmation) -> tuple[Path, str]:
    """Return the file that keeps a confirmation, relative to the leaderboard's folder, and a sort key within it."""
    return Path(FOLDER, one.suite, one.profile, f"{one.model}.jsonl"), one.line()


def wrong_confirmations(
    directory: Path, located: Sequence[tuple[str, Confirmation]], records: Iterable[Record]
) -> list[str]:
    """Return what is wrong with the confirmations of a leaderboard, one line each."""
    firsts = {record.key: record for record in records}
    wrong, seen = [], dict[Key, list[Confirmation]]()
    for where, one in located:
        first = firsts.get(one.key)
        earlier = seen.setdefault(one.key, [])
        if first is None or first.status not in ("ok", "diverged"):
            wrong.append(f"{where}: there is no result of its job {one.job_id[:12]}… to confirm")
        elif is_copy(first, one) or any(is_copy(other, one) for other in earlier):
            wrong.append(f"{where}: is a copy of a measurement that is there already")
        elif (one.status == "ok") != (SCORE in one.metrics):
            wrong.append(f"{where}: metrics must have {SCORE} exactly if the status is ok")
        elif one.difference != (expected := difference(first, one)):
            wrong.append(f"{where}: difference must be {expected}, got {one.difference}")
        earlier.append(one)
    return [*wrong, *misplaced(directory, FOLDER, located, place)]
