"""Every seed by itself, with median and quartiles over seeds (the paper's Fig. B.3); a figure for each model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import around, panels
from pdebench_fm.figures.distributions import distribution_entries
from pdebench_fm.figures.style import DARK, Looks
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import Curve, make_curves
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables import Row, Table, build_table, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "scores of two seeds of one point"


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> list[tuple[str, list[str], Figure]]:
    """Return a figure for each model of one suite, version and profile that has a point with several seeds."""
    found: list[tuple[str, list[str], Figure]] = []
    for model in sorted({record.model for record in records}, key=natural):
        mine = [record for record in records if record.model == model]
        tables = [table for table in build_table(mine) if _several(table)]
        if tables:
            found.append(("", [model], _draw(tables, make_curves(mine), shifts)))
    return found


def _several(table: Table) -> bool:
    cells = (cell for row in table.rows for cell in row.cells.values())
    return any(sum(SCORE in record.metrics for record in cell.records) > 1 for cell in cells)


def _draw(tables: Sequence[Table], curves: Mapping[tuple[str, str, str], Curve], shifts: Shifts) -> Figure:
    figure, groups = panels.make_panels(len(tables), shifts=shifts)
    looks = Looks(tables)
    sizes = panels.trained_sizes(tables)
    for (axes,), table in zip(groups, tables, strict=True):
        axes.set_yscale("log")
        panels.size_axis(axes, sizes, with_zero=0 in table.sizes)
        for row in table.rows:
            _draw_arm(axes, row, curves.get((row.model, table.task, row.protocol)), sizes, looks.colours[row.protocol])
        panels.dress(axes, table, shifts)
    panels.label_outside(groups, panels.SIZE_LABEL, [panels.ERROR_LABEL])
    panels.label_errors(groups[0][0])
    entries: list[around.Entry] = [
        ({"color": looks.colours[arm], "linewidth": 1.6}, f"{arm}, median") for arm in looks.arms
    ]
    thin = {"color": DARK, "linewidth": 0.5, "marker": "o", "markersize": 1.8, "alpha": 0.7}
    entries += [(thin, "one seed"), ({"color": DARK, "linewidth": 5, "alpha": 0.2}, "quartiles")]
    entries += around.diverged_entry(tables)
    around.add_legend(figure, [*([entry] for entry in entries), distribution_entries(tables, shifts)])
    around.add_headline(figure, around.headline(tables, looks.models))
    return figure


def _draw_arm(axes: Axes, row: Row, curve: Curve | None, sizes: Sequence[int], colour: Any) -> None:
    """Draw the seeds of one arm, thin, and over them the median; N = 0 stands alone."""
    zero = panels.zero_place(sizes)
    by_seed: dict[int, dict[int, float]] = {}
    for size, cell in row.cells.items():
        for record in cell.records:
            by_seed.setdefault(record.seed, {})[size] = record.metrics.get(SCORE, math.nan)
            if record.status == "diverged":
                panels.mark_diverged(axes, size or zero, colour)
    thin = {"color": colour, "marker": "o", "markersize": 1.8, "markeredgewidth": 0, "linewidth": 0.5, "alpha": 0.55}
    for errors in by_seed.values():
        trained = {size: errors.get(size, math.nan) for size in row.cells if size > 0}
        if 0 in errors:
            axes.plot([zero], [panels.on_axis(errors[0])], zorder=3, **{**thin, "linestyle": "none"})
        if trained:
            axes.plot(list(trained), [panels.on_axis(e) for e in trained.values()], zorder=3, **thin)
    if curve is None:
        return
    if (at_zero := curve.point(0)) is not None:
        axes.plot([zero], [panels.on_axis(at_zero.median)], marker="_", markersize=9, color=colour, zorder=4)
    places = panels.tried_sizes(curve)
    if places:
        points = [curve.point(size) for size in places]
        middles = [panels.on_axis(None if point is None else point.median) for point in points]
        # The marker shows a median both of whose neighbours are lacking.
        axes.plot(places, middles, color=colour, linewidth=1.6, marker="_", markersize=6, zorder=4)
        ends = [(math.nan, math.nan) if point is None else point.quartiles for point in points]
        lows, highs = [panels.on_axis(low) for low, _ in ends], [panels.on_axis(high) for _, high in ends]
        panels.draw_band(axes, places, lows, highs, colour, alpha=0.2)
