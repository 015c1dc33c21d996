"""One downstream distribution reached from several pre-trainings, in one panel (the paper's Figs. 6 and B.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pdebench_fm._util.identity import canonical_json
from pdebench_fm.figures import around, panels
from pdebench_fm.figures.distributions import distribution_entries
from pdebench_fm.figures.style import COLOURS, DARK, distinct_colours, line_style
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, ZERO_SHOT
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables import Row, Summary, Table, build_table, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "two tasks with the same downstream examples and different pre-trainings, with the records of these"
_TRANSFER = (FINE_TUNE, ZERO_SHOT)


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> list[tuple[str, list[str], Figure]]:
    """Return a figure for each model of one suite, version and profile: a panel for each downstream distribution.

    Args:
        records: points and pre-trainings; the source of a task is the name that the record of its pre-training has.
        shifts: the distributions that are known of the tasks.
    """
    found: list[tuple[str, list[str], Figure]] = []
    names = {record.job_id: record.task for record in records if record.kind == "pretraining"}
    points = [record for record in records if record.kind == "point"]
    for model in sorted({record.model for record in points}, key=natural):
        groups = _groups([record for record in points if record.model == model], names)
        if groups:
            found.append(("", [model], _draw(groups, model, shifts)))
    return found


def _groups(points: Sequence[Record], names: Mapping[str, str]) -> list[dict[str, Table]]:
    """Return, for each downstream distribution of one model, its tables by the pre-training they start from.

    Args:
        points: of one model.
        names: job id of a pre-training → its source.
    """
    sources: dict[str, str] = {}
    downstream: dict[str, str] = {}
    for record in points:
        source = names.get(record.pretrain_job_id or "")
        if source is not None and SCORE in record.metrics and record.examples > 0:
            sources[record.task] = source
        if (same := _downstream(record)) is not None:
            downstream[record.task] = same
    alike: dict[str, list[str]] = {}
    for task in sorted(sources, key=natural):
        if task in downstream:
            alike.setdefault(downstream[task], []).append(task)
    groups = []
    for tasks in alike.values():
        if len({sources[task] for task in tasks}) > 1:
            tables = build_table([record for record in points if record.task in tasks])
            groups.append({sources[table.task]: table for table in tables})
    return groups


def _downstream(record: Record) -> str | None:
    """Return what the test examples are, as text to compare; None where the job does not say what they are."""
    try:
        sets = record.job["test"]["sets"]
        known = bool(sets) and all("sampler" in part or "file" in part for part in sets)
    except (KeyError, TypeError):
        return None
    return canonical_json(sets) if known else None


def _draw(groups: Sequence[Mapping[str, Table]], model: str, shifts: Shifts) -> Figure:
    figure, stacks = panels.make_panels(len(groups), shifts=shifts)
    sources = sorted({source for group in groups for source in group}, key=natural)
    looks = {
        source: line_style(colour, index)
        for index, (source, colour) in enumerate(zip(sources, distinct_colours(len(sources)), strict=True))
    }
    fresh = {**line_style(COLOURS[SCRATCH], len(sources)), "linestyle": (0, (1, 3.5))}
    tables = [table for group in groups for table in group.values()]
    sizes = panels.trained_sizes(tables)
    for (axes,), group in zip(stacks, groups, strict=True):
        axes.set_yscale("log")
        panels.size_axis(axes, sizes, with_zero=any(0 in table.sizes for table in group.values()))
        for source, table in group.items():
            for row in table.rows:
                if row.protocol in _TRANSFER:
                    _draw_row(axes, row, sizes, looks[source])
        plainest = min(group.values(), key=lambda table: (len(table.task), natural(table.task)))
        for row in plainest.rows:  # scratch is the same in all tables of a group: it starts from no pre-training
            if row.protocol == SCRATCH:
                _draw_row(axes, row, sizes, fresh)
        panels.dress(axes, plainest, shifts)
    panels.label_outside(stacks, panels.SIZE_LABEL, [panels.ERROR_LABEL])
    panels.label_errors(stacks[0][0])
    entries: list[around.Entry] = [(looks[source], f"pre-trained on {source}") for source in sources]
    if any(row.protocol == SCRATCH for table in tables for row in table.rows):
        entries.append((fresh, "from scratch"))
    if any(_quartiles(cell) for table in tables for row in table.rows for cell in row.cells.values()):
        entries.append(({"color": DARK, "linewidth": 5, "alpha": 0.2}, "quartiles over seeds"))
    entries += around.diverged_entry(tables)
    around.add_legend(figure, [*([entry] for entry in entries), distribution_entries(tables, shifts)])
    around.add_headline(figure, around.headline(tables, [model], "zero-shot at N = 0"))
    return figure


def _draw_row(axes: Axes, row: Row, sizes: Sequence[int], look: Mapping[str, Any]) -> None:
    """Draw the medians of one arm and their quartiles over seeds; N = 0 stands alone."""
    zero = [size for size in row.cells if size == 0]
    for own, style in ((zero, {**look, "linestyle": "none"}), ([size for size in row.cells if size > 0], look)):
        places = [size or panels.zero_place(sizes) for size in own]
        cells = [row.cells[size] for size in own]
        axes.plot(places, [panels.on_axis(cell.median) for cell in cells], zorder=3, **style)
        ends = [_quartiles(cell) or (math.nan, math.nan) for cell in cells]
        lows, highs = [panels.on_axis(low) for low, _ in ends], [panels.on_axis(high) for _, high in ends]
        panels.draw_band(axes, places, lows, highs, look["color"])
    for size, cell in row.cells.items():
        if any(record.status == "diverged" for record in cell.records):
            panels.mark_diverged(axes, size or panels.zero_place(sizes), look["color"])


def _quartiles(cell: Summary) -> tuple[float, float] | None:
    """Return the quartiles over seeds; None of one seed, and where a seed has no outcome."""
    return cell.point.quartiles if cell.point is not None and len(cell.point.errors) > 1 else None
