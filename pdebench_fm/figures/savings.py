"""Data savings: the scratch examples that match N examples after pre-training (the paper's Fig. B.1).

A bound has an arrow: up if scratch needs more than its largest N, down if its smallest N is enough. So do the ends of
intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import panels
from pdebench_fm.figures.style import DARK, GREY, distinct_colours, line_style
from pdebench_fm.records.curves import SCRATCH, transfer_curves
from pdebench_fm.records.record import Record
from pdebench_fm.records.savings import Amount, Saving, savings
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables.wording import arm_order, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDS = "scores of an arm that uses the pre-training, and of scratch at two N"
_DIAGONAL: dict[str, Any] = {"color": GREY, "linestyle": (0, (4, 3)), "linewidth": 0.8}
_Savings = dict[tuple[str, str], tuple[Saving, ...]]


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> panels.Made:
    """Return one figure for one suite, version and profile: a panel for each task, a line for each model and arm."""
    found = [(task, of_task) for task in panels.by_task(records) if (of_task := _savings_of(task))]
    if not found:
        return []
    sheet = panels.Sheet([task for task, _ in found], shifts)
    lines = sorted({key for _, of_task in found for key in of_task}, key=lambda k: (natural(k[0]), arm_order(k[1])))
    models = sorted({model for model, _ in lines}, key=natural)
    colours = distinct_colours(len(lines))
    looks = {key: line_style(colours[index], index) for index, key in enumerate(lines)}
    # Lines are drawn a little beside each other, because many of their savings are the same bound.
    gap = min((b / a for a, b in pairwise(sheet.trained)), default=2.0)
    aside = {key: gap ** (0.4 * ((index + 0.5) / len(lines) - 0.5)) for index, key in enumerate(lines)}
    scratch = [curve for task, _ in found for (_, arm), curve in task.curves.items() if arm == SCRATCH]
    tried = sorted({point.examples for curve in scratch for point in curve.trained})
    ticks = tried[:: math.ceil(len(tried) / 7)]
    for ((axes,), task), (_, of_task) in zip(sheet, found, strict=True):
        axes.set_yscale("log", base=2)
        sheet.size_axis(axes, with_zero=any(s.examples == 0 for line in of_task.values() for s in line))
        axes.plot(sheet.trained, sheet.trained, zorder=1, **_DIAGONAL)
        for key, line in of_task.items():
            _draw_line(axes, line, task.sizes(key[1]), looks[key], aside[key])
        axes.set_ylim(tried[0] / 3.2, tried[-1] * 3.2)
        axes.set_yticks(ticks, labels=[panels.short_size(size) for size in ticks])
        axes.set_yticks([], minor=True)
        sheet.dress(axes, task)
    several = len({arm for _, arm in lines}) > 1
    entries: list[panels.Entry] = [(looks[model, arm], f"{model}, {arm}" if several else model) for model, arm in lines]
    bounds = {end.bound for _, of_task in found for line in of_task.values() for s in line for end in _amounts(s)}
    arrow = {"linestyle": "none", "markersize": 5, "color": DARK}
    entries.append((_DIAGONAL, "no saving"))
    entries += [({**arrow, "marker": "^"}, "arrow: more than the largest N tried")] if ">" in bounds else []
    entries += [({**arrow, "marker": "v"}, "arrow: at most this")] if "≤" in bounds else []
    headline = sheet.headline(models, "data savings; zero-shot at N = 0")
    return [("", models, sheet.finish(entries, headline, y="scratch examples for the same error"))]


def _savings_of(task: panels.TaskCurves) -> _Savings:
    """Return the savings of a task by (model, arm), if scratch has two N to compare with."""
    found: _Savings = {}
    for model in sorted({model for model, _ in task.curves}, key=natural):
        curves = {arm: curve for (other, arm), curve in task.curves.items() if other == model}
        if SCRATCH in curves and len(curves[SCRATCH].trained) > 1:
            arms = {curve.protocol: savings(curve, curves[SCRATCH]) for curve in transfer_curves(curves)}
            found |= {(model, arm): line for arm, line in arms.items() if any(s.examples > 0 for s in line)}
    return found


def _amounts(saving: Saving) -> Iterator[Amount]:
    """Yield the amount and the ends of its interval."""
    yield saving.matched
    yield from saving.interval or ()


def _draw_line(axes: Axes, line: Sequence[Saving], sizes: Sequence[int], look: Mapping[str, Any], aside: float) -> None:
    """Draw one arm: filled markers for known amounts, hollow ones for bounds, and an arrow for every bound."""
    known = {saving.examples: saving.matched.value for saving in line}
    trained = [size for size in sizes if size > 0]
    values = [known.get(size, math.nan) for size in trained]
    axes.plot([n * aside for n in trained], values, zorder=2, alpha=0.45, **{**look, "marker": "none"})
    for saving in line:
        x = saving.examples * aside if saving.examples else (aside - 1) * trained[0] / 4
        if saving.interval is not None:
            low, high = saving.interval
            axes.vlines([x], low.value, high.value, color=look["color"], linewidth=1.0, alpha=0.5)
        point = {**look, "linestyle": "none"}
        if saving.matched.censored:
            point |= {"markerfacecolor": "white", "markeredgecolor": look["color"], "markeredgewidth": 0.9}
        for bound in dict.fromkeys(amount for amount in _amounts(saving) if amount.censored):
            _arrow(axes, x, bound.value, up=bound.bound == ">", colour=look["color"])
        axes.plot([x], [saving.matched.value], zorder=3, **point)


def _arrow(axes: Axes, x: float, y: float, up: bool, colour: Any) -> None:
    axes.annotate(  # from the marker to the "text", which is the tip
        "",
        xy=(x, y),
        xytext=(0, 11 if up else -11),
        textcoords="offset points",
        arrowprops={"arrowstyle": "<|-", "color": colour, "linewidth": 0.9, "mutation_scale": 6, "shrinkB": 2},
    )
