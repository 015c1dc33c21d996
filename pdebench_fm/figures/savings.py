"""Data savings: the scratch examples that match N examples after pre-training (the paper's Fig. B.1).

What scratch does not reach with its largest N is an arrow up from there, what it does with its smallest one down; so
are the ends of intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import around, panels
from pdebench_fm.figures.distributions import distribution_entries
from pdebench_fm.figures.style import DARK, GREY, distinct_colours, line_style
from pdebench_fm.records.curves import SCRATCH, Curve, make_curves, transfer_curves
from pdebench_fm.records.record import Record
from pdebench_fm.records.savings import Amount, Saving, savings
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables import arm_order, build_table, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pdebench_fm.tables import Table

NEEDS = "scores of an arm that uses the pre-training, and of scratch at two N"


@dataclass(frozen=True)
class _Line:
    """The savings of one arm, and every N ≥ 1 it was tried with."""

    amounts: tuple[Saving, ...]
    tried: list[int]


_Lines = Mapping[tuple[str, str], _Line]


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> list[tuple[str, list[str], Figure]]:
    """Return one figure for one suite, version and profile: a panel for each task, a line for each model and arm."""
    curves = make_curves(records)
    found: dict[str, dict[tuple[str, str], _Line]] = {}
    against: dict[str, list[Curve]] = {}
    for model, task in sorted({(model, task) for model, task, _ in curves}):
        of_task = {arm: curve for (m, t, arm), curve in curves.items() if (m, t) == (model, task)}
        if SCRATCH not in of_task or len(of_task[SCRATCH].trained) < 2:
            continue
        for curve in transfer_curves(of_task):
            amounts = savings(curve, of_task[SCRATCH])
            if any(saving.examples > 0 for saving in amounts):
                found.setdefault(task, {})[model, curve.protocol] = _Line(amounts, panels.tried_sizes(curve))
                against.setdefault(task, []).append(of_task[SCRATCH])
    tables = [table for table in build_table(records) if table.task in found]
    if not tables:
        return []
    models = sorted({model for lines in found.values() for model, _ in lines})
    return [("", models, _draw(tables, found, against, shifts))]


def _draw(
    tables: Sequence[Table], found: Mapping[str, _Lines], against: Mapping[str, list[Curve]], shifts: Shifts
) -> Figure:
    figure, groups = panels.make_panels(len(tables), shifts=shifts)
    sizes = panels.trained_sizes(tables)
    lines = sorted(
        {key for of_task in found.values() for key in of_task}, key=lambda k: (natural(k[0]), arm_order(k[1]))
    )
    colours = distinct_colours(len(lines))
    looks = {key: line_style(colours[index], index) for index, key in enumerate(lines)}
    # Lines stand a little beside each other, since many of their savings are the same bound.
    gap = min((b / a for a, b in pairwise(sizes)), default=2.0)
    aside = {key: gap ** (0.4 * ((index + 0.5) / len(lines) - 0.5)) for index, key in enumerate(lines)}
    tried = sorted({point.examples for curves in against.values() for curve in curves for point in curve.trained})
    for (axes,), table in zip(groups, tables, strict=True):
        axes.set_yscale("log", base=2)
        panels.size_axis(
            axes, sizes, with_zero=any(s.examples == 0 for a in found[table.task].values() for s in a.amounts)
        )
        axes.plot(sizes, sizes, color=GREY, linestyle=(0, (4, 3)), linewidth=0.8, zorder=1)
        for key, line in found[table.task].items():
            _draw_line(axes, line, looks[key], panels.zero_place(sizes), aside[key])
        kept = tried[:: -(-len(tried) // 7)]
        axes.set_ylim(tried[0] / 3.2, tried[-1] * 3.2)
        axes.set_yticks(kept, labels=[panels.short_size(size) for size in kept])
        axes.set_yticks([], minor=True)
        panels.dress(axes, table, shifts)
    panels.label_outside(groups, panels.SIZE_LABEL, ["scratch examples for the same error"])
    several = len({arm for _, arm in lines}) > 1
    entries: list[around.Entry] = [(looks[model, arm], f"{model}, {arm}" if several else model) for model, arm in lines]
    entries.append(({"color": GREY, "linestyle": (0, (4, 3)), "linewidth": 0.8}, "no saving"))
    arrow = {"linestyle": "none", "markersize": 6, "markeredgewidth": 0, "color": DARK}
    bounds = {
        end.bound for of_task in found.values() for a in of_task.values() for s in a.amounts for end in _amounts(s)
    }
    if ">" in bounds:
        entries.append(({**arrow, "marker": r"$\uparrow$"}, "more than the largest N tried"))
    if "≤" in bounds:
        entries.append(({**arrow, "marker": r"$\downarrow$"}, "at most this"))
    around.add_legend(figure, [*([entry] for entry in entries), distribution_entries(tables, shifts)])
    models = sorted({model for model, _ in lines})
    around.add_headline(figure, around.headline(tables, models, "data savings; zero-shot at N = 0"))
    return figure


def _amounts(saving: Saving) -> Iterator[Amount]:
    """Yield the amount and the ends of its interval."""
    yield saving.matched
    yield from saving.interval or ()


def _draw_line(axes: Axes, line: _Line, look: Mapping[str, Any], zero: float, aside: float) -> None:
    """Draw one arm: known amounts as filled markers, bounds hollow; every bound, of an interval too, has an arrow."""
    known = {saving.examples: saving.matched.value for saving in line.amounts}
    places, values = [size * aside for size in line.tried], [known.get(size, math.nan) for size in line.tried]
    axes.plot(places, values, zorder=2, alpha=0.45, **{**look, "marker": "none"})
    for saving in line.amounts:
        x, y = (saving.examples or zero) * aside, saving.matched.value
        if saving.interval is not None:
            axes.vlines([x], saving.interval[0].value, saving.interval[1].value, color=look["color"], linewidth=1.0,
                        alpha=0.5)  # fmt: skip
        point = {**look, "linestyle": "none"}
        if saving.matched.censored:
            point |= {"markerfacecolor": "white", "markeredgecolor": look["color"], "markeredgewidth": 0.9}
        for bound in {amount: None for amount in _amounts(saving) if amount.censored}:  # often they are the same
            _arrow(axes, x, bound.value, up=bound.bound == ">", colour=look["color"])
        axes.plot([x], [y], zorder=3, **point)


def _arrow(axes: Axes, x: float, y: float, up: bool, colour: Any) -> None:
    axes.annotate(  # from the marker to the "text", which is the tip
        "",
        xy=(x, y),
        xytext=(0, 11 if up else -11),
        textcoords="offset points",
        arrowprops={"arrowstyle": "<|-", "color": colour, "linewidth": 0.9, "mutation_scale": 6, "shrinkB": 2},
    )
