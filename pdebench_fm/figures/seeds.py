"""Every seed by itself, with median and quartiles over seeds (the paper's Fig. B.3); a figure for each model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import panels
from pdebench_fm.figures.style import DARK, arm_colours
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables.wording import arm_order, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "scores of two seeds of one point"


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> panels.Made:
    """Return a figure for each model of one suite, version and profile that has a point with several seeds."""
    found: panels.Made = []
    for model in sorted({record.model for record in records}, key=natural):
        tasks = panels.by_task([record for record in records if record.model == model])
        several = [task for task in tasks if _has_several(task.records)]
        if several:
            found.append(("", [model], _draw(several, model, shifts)))
    return found


def _has_several(records: Sequence[Record]) -> bool:
    counts = Counter((record.protocol, record.examples) for record in records if SCORE in record.metrics)
    return max(counts.values(), default=0) > 1


def _draw(tasks: Sequence[panels.TaskCurves], model: str, shifts: Shifts) -> Figure:
    sheet = panels.Sheet(tasks, shifts)
    arms = sorted({arm for task in tasks for _, arm in task.curves}, key=arm_order)
    colours = arm_colours(arms)
    for (axes,), task in sheet:
        axes.set_yscale("log")
        sheet.size_axis(axes, with_zero=0 in task.sizes())
        for (_, arm), curve in task.curves.items():
            sizes = task.sizes(arm)
            _draw_seeds(axes, [record for record in task.records if record.protocol == arm], sizes, colours[arm])
            median = {"color": colours[arm], "linewidth": 1.6, "marker": "_", "markersize": 7}
            panels.draw_curve(axes, curve, sizes, median, panels.quartiles)
        sheet.dress(axes, task)
    panels.label_errors(sheet.stacks[0][0])
    entries: list[panels.Entry] = [({"color": colours[arm], "linewidth": 1.6}, f"{arm}, median") for arm in arms]
    thin = {"color": DARK, "linewidth": 0.5, "marker": "o", "markersize": 1.8, "alpha": 0.7}
    entries += [(thin, "one seed"), ({"color": DARK, "linewidth": 5, "alpha": 0.2}, "quartiles")]
    return sheet.finish([*entries, *sheet.special_entries()], sheet.headline([model]))


def _draw_seeds(axes: Axes, records: Sequence[Record], sizes: Sequence[int], colour: Any) -> None:
    """Draw a thin line for each seed of one arm."""
    thin = {"color": colour, "marker": "o", "markersize": 1.8, "markeredgewidth": 0, "linewidth": 0.5, "alpha": 0.55}
    trained = [size for size in sizes if size > 0]
    for seed in sorted({record.seed for record in records}):
        errors = {r.examples: panels.on_axis(r.metrics.get(SCORE)) for r in records if r.seed == seed}
        if 0 in errors:
            axes.plot([0], [errors[0]], **{**thin, "linestyle": "none"})
        if trained:
            axes.plot(trained, [errors.get(size, math.nan) for size in trained], **thin)
