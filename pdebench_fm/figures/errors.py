"""Error against the number of downstream examples, a panel for each task (the paper's Figs. 3, 5, A.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import around, panels
from pdebench_fm.figures.distributions import distribution_entries
from pdebench_fm.figures.style import Looks
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables import Summary, Table, build_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "a record with a score"


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> list[tuple[str, list[str], Figure]]:
    """Return (detail, models, figure) for the points of one suite, version and profile."""
    if not any(SCORE in record.metrics for record in records):
        return []
    return [("", sorted({record.model for record in records}), make_figure(build_table(records), shifts))]


def make_figure(tables: Sequence[Table], shifts: Shifts = UNKNOWN) -> Figure:
    """Draw the tables of one suite, version and profile.

    Args:
        tables: one for each task.
        shifts: the distributions that are known of these tasks.
    """
    figure, groups = panels.make_panels(len(tables), shifts=shifts)
    looks = Looks(tables)
    sizes = panels.trained_sizes(tables)
    for (panel,), table in zip(groups, tables, strict=True):
        _draw_panel(panel, table, looks, sizes)
        panels.dress(panel, table, shifts)
    panels.label_outside(groups, panels.SIZE_LABEL, [panels.ERROR_LABEL])
    panels.label_errors(groups[0][0])
    _add_legend(figure, tables, looks, shifts)
    around.add_headline(figure, around.headline(tables, looks.models))
    return figure


def _draw_panel(axes: Axes, table: Table, looks: Looks, sizes: Sequence[int]) -> None:
    """Draw one task; an arm that has N = 0 alone is a horizontal line too."""
    axes.set_yscale("log")
    panels.size_axis(axes, sizes, with_zero=any(0 in row.cells for row in table.rows))
    zero = panels.zero_place(sizes)
    for row in table.rows:
        alone = set(row.cells) == {0}
        style = looks.line(row)
        if alone:
            _draw_level(axes, row.cells[0], looks.level(row))
        if 0 in row.cells:
            _draw_line(axes, [(zero, row.cells[0])], {**style, "linestyle": "none"}, spread=not alone)
        _draw_line(axes, [(float(size), cell) for size, cell in row.cells.items() if size > 0], style)
        for size, cell in row.cells.items():
            if any(record.status == "diverged" for record in cell.records):
                panels.mark_diverged(axes, size or zero, style["color"])


def _draw_level(axes: Axes, cell: Summary, look: Mapping[str, Any]) -> None:
    """Draw a median and its spread across the panel; nothing where it is not finite."""
    middle = panels.on_axis(cell.median)
    if math.isnan(middle):
        return
    axes.axhline(middle, zorder=2, **look)
    low, high = map(panels.on_axis, cell.spread or (middle, middle))
    if low < high:
        axes.axhspan(low, high, color=look["color"], alpha=0.15, linewidth=0)


def _draw_line(
    axes: Axes, points: Sequence[tuple[float, Summary]], style: Mapping[str, Any], spread: bool = True
) -> None:
    """Draw medians and their spread; where a size has no score the line is broken, never bridged."""
    if not points:
        return
    places = [place for place, _ in points]
    middles = [panels.on_axis(cell.median) for _, cell in points]
    axes.plot(places, middles, zorder=3, **style)
    if spread:
        spreads = [cell.spread or (middle, middle) for (_, cell), middle in zip(points, middles, strict=True)]
        lows, highs = [panels.on_axis(low) for low, _ in spreads], [panels.on_axis(high) for _, high in spreads]
        panels.draw_band(axes, places, lows, highs, style["color"])


def _add_legend(figure: Figure, tables: Sequence[Table], looks: Looks, shifts: Shifts) -> None:
    """Name every arm of every model; of several models, those of one stand together."""
    rows = {(row.model, row.protocol): row for table in tables for row in table.rows}
    several = len(looks.models) > 1
    blocks: list[list[around.Entry]] = []
    for model in looks.models:
        entries: list[around.Entry] = []
        for arm in looks.arms:
            row = rows.get((model, arm))
            if row is None:
                continue
            cells = [r.cells for table in tables for r in table.rows if (r.model, r.protocol) == (model, arm)]
            alone = all(set(found) <= {0} for found in cells)
            words = {record.status for found in cells for cell in found.values() for record in cell.records}
            without = f" ({', '.join(sorted(words))})" if words and "ok" not in words else ""
            look = {**looks.line(row), **(looks.level(row) if alone else {})}
            entries.append((look, (f"{model}, {arm}" if several else arm) + without))
        blocks += [entries] if several else [[entry] for entry in entries]
    around.add_legend(figure, [*blocks, around.diverged_entry(tables), distribution_entries(tables, shifts)])
