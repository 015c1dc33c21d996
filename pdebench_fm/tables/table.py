"""What a table holds: one per task, the number of downstream examples across, models and arms down.

A cell is the median over seeds with its 95% interval; a seed that diverged is worse than any number. A cell that lacks
a seed shows the median of those it has, and says how many there are.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import CurvePoint, point_of
from pdebench_fm.records.record import Cell, Record, start_of
from pdebench_fm.tables.wording import arm_order, describe_parameters, natural, number

_OUTCOMES = ("ok", "diverged")


@dataclass(frozen=True)
class Summary:
    """What is known of one cell of one model: its records, one a seed, and how many seeds there should be."""

    records: tuple[Record, ...]
    expected: int

    @property
    def point(self) -> CurvePoint | None:
        """The cell as a point of a curve; None where a seed failed or is unsupported."""
        return point_of(self.records)

    @property
    def median(self) -> float | None:
        """Median over the seeds, infinite where half of them or more diverged; None where a seed has no outcome."""
        return None if self.point is None else self.point.median

    @property
    def spread(self) -> tuple[float, float] | None:
        """95% interval of the median over seeds; with a single seed, over test examples."""
        interval = None if self.point is None else self.point.interval
        return None if interval is None else (interval.low, interval.high)

    @property
    def under_trained(self) -> bool:
        """Whether any of the seeds is flagged."""
        return any(record.under_trained for record in self.records)

    def text(self, detailed: bool = True) -> str:
        """Return the cell as one line; ``detailed`` adds the spread."""
        if not self.records:
            return "missing" if self.expected else "–"
        problems = Counter(record.status for record in self.records if SCORE not in record.metrics)
        whole = replace(self, records=tuple(record for record in self.records if record.status in _OUTCOMES))
        if whole.median is None or whole.median == math.inf:
            alone = problems.total() == len(self.records) and len(problems) == 1
            of = "" if problems.total() == len(self.records) else f" of {len(self.records)}"
            parts = [status if alone else f"{n}{of} {status}" for status, n in sorted(problems.items())]
        else:
            value = number(whole.median)
            if detailed and whole.spread is not None:
                low, high = (number(end) if end < math.inf else "diverged" for end in whole.spread)
                value += f" ({low}–{high})"
            parts = [value, *(f"{n} {status}" for status, n in sorted(problems.items()))]
        seeds = len(whole.records) or len(self.records)
        if seeds < self.expected:
            parts.append(f"{seeds}/{self.expected} seeds")
        return ", ".join(parts)


@dataclass(frozen=True)
class Row:
    """One arm of one model: a cell for every size of the table; None where the arm has no such cell."""

    model: str
    protocol: str
    cells: Mapping[int, Summary]


@dataclass(frozen=True)
class Table:
    """All scores of one task, or of one pre-training."""

    suite: str
    suite_version: int
    profile: str
    kind: str
    task: str
    shift: str
    models: tuple[str, ...]
    parameters: Mapping[str, tuple[int, ...]]
    sizes: tuple[int, ...]
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The task and its shift."""
        if self.kind == "pretraining":
            return f"Pre-training {self.task}"
        if not self.shift:
            return self.task
        realised = f", overlap {self.overlap:.2f}" if self.overlap is not None else ""
        return f"{self.task} (shift: {self.shift}{realised})"

    @property
    def overlap(self) -> float | None:
        """How far pre-training and downstream physics overlap as drawn, 0 … 1; None where no record says."""
        cells = (cell for row in self.rows for cell in row.cells.values())
        known = [record.overlap for cell in cells for record in cell.records if record.overlap is not None]
        return statistics.median(known) if known else None

    @property
    def header(self) -> str:
        """Where the scores come from: suite, version, profile, models and their sizes, and what to be wary of."""
        models = [f"{model} ({describe_parameters(self.parameters[model])})" for model in self.models]
        parts = [f"{self.suite} v{self.suite_version}", f"profile {self.profile}", ", ".join(models)]
        records = [record for row in self.rows for cell in row.cells.values() for record in cell.records]
        starts = map(start_of, records)
        foreign = {str(start.get("sha256"))[:12] for start in starts if start.get("from") == "weights"}
        if foreign:
            parts.append(f"from weights of the user's own (SHA-256 {', '.join(sorted(foreign))}…)")
        if any(cell.under_trained for row in self.rows for cell in row.cells.values()):
            parts.append("under-trained: at this scale models are not trained to the end")
        return " · ".join(parts)


def build_table(records: Iterable[Record], planned: Collection[Cell] | None = None) -> list[Table]:
    """Arrange records into tables: one per suite, version, profile and task, pre-trainings first.

    Args:
        records: of any number of suites and models; of two at the same `Record.place` the later counts.
        planned: every cell there should be, where the suite's plan is known. Otherwise a cell should have the seeds
            that any size of the same task and arm has, and should be there where any model has it.
    """
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in {record.place: record for record in records}.values():
        key = (record.suite, -record.suite_version, record.profile, record.kind == "point", natural(record.task))
        groups.setdefault((*key, record.task), []).append(record)
    return [_table(groups[key], planned) for key in sorted(groups)]


def _table(records: Sequence[Record], planned: Collection[Cell] | None) -> Table:
    first = records[0]
    models = tuple(sorted({record.model for record in records}, key=natural))
    seeds = _expected_seeds(records, planned)
    protocols = sorted({protocol for protocol, _ in seeds} | {r.protocol for r in records}, key=arm_order)
    rows = []
    for model in models:
        for protocol in protocols:
            mine = sorted((r for r in records if (r.model, r.protocol) == (model, protocol)), key=lambda r: r.seed)
            sizes = {r.examples for r in mine} | {size for arm, size in seeds if arm == protocol}
            cells = {
                size: Summary(tuple(r for r in mine if r.examples == size), len(seeds.get((protocol, size), ())))
                for size in sorted(sizes)
            }
            rows.append(Row(model, protocol, cells))
    counts = {m: {r.parameters for r in records if r.model == m and r.parameters is not None} for m in models}
    return Table(
        suite=first.suite,
        suite_version=first.suite_version,
        profile=first.profile,
        kind=first.kind,
        task=first.task,
        shift=first.shift,
        models=models,
        parameters={model: tuple(sorted(found)) for model, found in counts.items()},
        sizes=tuple(sorted({size for row in rows for size in row.cells})),
        rows=tuple(rows),
    )


def _expected_seeds(records: Sequence[Record], planned: Collection[Cell] | None) -> dict[tuple[str, int], set[int]]:
    """Return the seeds that each (protocol, size) of one task should have."""
    expected: dict[tuple[str, int], set[int]] = {}
    if planned is not None and records[0].kind == "point":
        for cell in planned:
            if cell.task == records[0].task:
                expected.setdefault((cell.protocol, cell.examples), set()).add(cell.seed)
        return expected
    of_arm: dict[str, set[int]] = {}
    for record in records:
        of_arm.setdefault(record.protocol, set()).add(record.seed)
        expected[record.protocol, record.examples] = of_arm[record.protocol]
    return expected
