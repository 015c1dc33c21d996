"""One table for each task: N across, models and arms down. A cell is the median over seeds with its 95% interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pdebench_fm._util.grouping import grouped
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import point_of
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.tables.scores import scores_of_curves
from pdebench_fm.tables.wording import (
    arm_order,
    describe_parameters,
    describe_shift,
    escape_markdown,
    markdown,
    natural,
    number,
)

NOTE = (
    "Mean relative L2 error over the test set, median over seeds; in parentheses its 95% interval over seeds (the "
    "range if there are five or fewer), or over test examples with one seed. ↓ ↑ the smallest or largest learning "
    "rate tried was chosen, so that a better one may lie beyond. – no such cell."
)
"""What the cells of a Markdown table mean."""


@dataclass(frozen=True)
class Table:
    """All records of one task, or of one pre-training.

    Args:
        records: at most one for each `Record.place`, by seed.
        expected: how many seeds there should be, by (arm, N).
        order: of the models; natural order by default.
    """

    records: Sequence[Record]
    expected: Mapping[tuple[str, int], int]
    order: Sequence[str] = ()

    @property
    def task(self) -> str:
        """The task, or the source of the pre-training."""
        return self.records[0].task

    @property
    def title(self) -> str:
        """The task and its shift."""
        first, shift = self.records[0], describe_shift(self.records)
        if first.kind == "pretraining":
            return f"Pre-training {first.task}"
        return f"{first.task} ({shift})" if shift else first.task

    @property
    def models(self) -> list[str]:
        """The models, in order."""
        names = {record.model for record in self.records}
        return [name for name in self.order if name in names] or sorted(names, key=natural)

    @property
    def header(self) -> str:
        """Suite, version, profile, the models and their sizes, and warnings."""
        first, sizes = self.records[0], []
        for model in self.models:
            counts = {r.parameters for r in self.records if r.model == model and r.parameters is not None}
            sizes.append(f"{model} ({describe_parameters(sorted(counts))})")
        parts = [f"{first.suite} v{first.suite_version}", f"profile {first.profile}", ", ".join(sizes)]
        if weights := {record.own_weights[:12] for record in self.records} - {""}:
            parts.append(f"from weights of the user's own (SHA-256 {', '.join(sorted(weights))}…)")
        if any(record.under_trained for record in self.records):
            parts.append("under-trained: at this scale models are not trained to the end")
        return " · ".join(parts)

    def rows(self) -> list[dict[str, str]]:
        """Return the cells as text: a row for each model and arm, a column for each N."""
        cells = grouped(self.records, lambda record: (record.model, record.protocol, record.examples))
        places = {(arm, n) for _, arm, n in cells} | {*self.expected}
        sizes = sorted({n for _, n in places})
        return [
            ({"model": model} if len(self.models) > 1 else {})
            | {"arm": arm}
            | {f"N = {n}": cell_text(cells.get((model, arm, n), []), self.expected.get((arm, n), 0)) for n in sizes}
            for model in self.models
            for arm in sorted({arm for arm, _ in places}, key=arm_order)
        ]


def build_table(records: Iterable[Record], planned: Collection[Cell] | None = None) -> list[Table]:
    """Arrange records into tables: one for each suite, version, profile and task, pre-trainings first.

    Args:
        records: of any suites and models. The later of two at the same `Record.place` counts.
        planned: every cell of the suite's plan. By default, an arm should have the same seeds at every N that any model
            has.
    """
    groups = grouped(
        {record.place: record for record in records}.values(),
        lambda r: (r.suite, -r.suite_version, r.profile, r.kind == "point", natural(r.task)),
    )
    return [
        Table(sorted(groups[key], key=lambda record: record.seed), _expected(groups[key], planned))
        for key in sorted(groups)
    ]


def _expected(records: Sequence[Record], planned: Collection[Cell] | None) -> Counter[tuple[str, int]]:
    """Return how many seeds each (arm, N) of one task should have."""
    if planned is not None and records[0].kind == "point":
        return Counter((cell.protocol, cell.examples) for cell in {*planned} if cell.task == records[0].task)
    seeds: dict[str, set[int]] = {}
    for record in records:
        seeds.setdefault(record.protocol, set()).add(record.seed)
    return Counter({(r.protocol, r.examples): len(seeds[r.protocol]) for r in records})


def cell_text(records: Sequence[Record], expected: int, detailed: bool = True) -> str:
    """Return a cell as one line: the median over the seeds that have an outcome, and what is missing.

    Args:
        records: of one cell, one for each seed.
        expected: how many seeds there should be.
        detailed: whether to add the interval and the marks of open searches.
    """
    if not records:
        return "missing" if expected else "–"
    problems = Counter(record.status for record in records if SCORE not in record.metrics)
    known = [record for record in records if record.status in ("ok", "diverged")]
    point = point_of(known)
    if point is not None and math.isfinite(point.median):
        shown = number(point.median)
        if detailed and (ends := point.interval) is not None:
            high = number(ends[1]) if ends[1] < math.inf else "diverged"
            shown += f" ({number(ends[0])}–{high})"
        parts = [shown + (_open_marks(records) if detailed else "")]
        parts += [f"{count} {status}" for status, count in sorted(problems.items())]
    elif set(problems.values()) == {len(records)}:
        parts = list(problems)
    else:
        of = "" if problems.total() == len(records) else f" of {len(records)}"
        parts = [f"{count}{of} {status}" for status, count in sorted(problems.items())]
    seeds = len(known) or len(records)
    return ", ".join([*parts, *([f"{seeds}/{expected} seeds"] if seeds < expected else [])])


def _open_marks(records: Sequence[Record]) -> str:
    """Return an arrow for each end at which a search is open: a better learning rate may lie beyond."""
    states = {record.searched for record in records}
    return "".join(f" {arrow}" for state, arrow in (("open-low", "↓"), ("open-high", "↑")) if state in states)


def to_markdown(tables: Sequence[Table]) -> str:
    """Return tables as Markdown with intervals, and after them the scores of the curves."""
    parts = []
    for table in tables:
        rows = [{key: escape_markdown(text) for key, text in row.items()} for row in table.rows()]
        body = markdown(rows, left=2 if "model" in rows[0] else 1)
        parts.append(f"## {escape_markdown(table.title)}\n\n{escape_markdown(table.header)}\n\n{body}\n")
    points = [record for table in tables for record in table.records if record.kind == "point"]
    return "\n".join([*parts, NOTE + "\n", *scores_of_curves(points)])
