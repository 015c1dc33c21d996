"""Error against the number of downstream examples, a panel for each task (the paper's Figs. 3, 5, A.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import panels
from pdebench_fm.figures.style import DARK, arm_colours, line_style
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import FEW_SEEDS, SCRATCH, CurvePoint
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables.wording import arm_order, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NEEDS = "a record with a score"


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> panels.Made:
    """Return one figure of the points of one suite, version and profile."""
    if not any(SCORE in record.metrics for record in records):
        return []
    sheet = panels.Sheet(panels.by_task(records), shifts)
    lines = sorted({key for task in sheet.tasks for key in task.curves}, key=lambda k: (natural(k[0]), arm_order(k[1])))
    models = sorted({model for model, _ in lines}, key=natural)
    colours = arm_colours(sorted({arm for _, arm in lines}, key=arm_order))
    looks = {(model, arm): line_style(colours[arm], models.index(model)) for model, arm in lines}
    for (axes,), task in sheet:
        axes.set_yscale("log")
        sheet.size_axis(axes, with_zero=0 in task.sizes())
        for (model, arm), curve in task.curves.items():
            sizes = task.sizes(arm)
            if sizes == [0] and (point := curve.point(0)) is not None:
                _draw_level(axes, point, looks[model, arm])
            panels.draw_curve(axes, curve, sizes, looks[model, arm], lambda point: point.interval)
        sheet.dress(axes, task)
    panels.label_errors(sheet.stacks[0][0])
    entries: list[panels.Entry] = [
        (looks[model, arm], (f"{model}, {arm}" if len(models) > 1 else arm) + _remark(records, model, arm))
        for model, arm in lines
    ]
    points = [point for task in sheet.tasks for curve in task.curves.values() for point in curve.points]
    if shown := _what_bands_show([point for point in points if point.interval]):
        entries.append(({"color": DARK, "linewidth": 5, "alpha": 0.2}, shown))
    return [("", models, sheet.finish([*entries, *sheet.special_entries()], sheet.headline(models)))]


def _what_bands_show(points: Sequence[CurvePoint]) -> str:
    """Return what the bands are. A bootstrap over five seeds or fewer gives their whole range."""
    of_one, seeds = "95% interval over test examples", max((len(point.seeds) for point in points), default=0)
    if seeds < 2:
        return of_one if points else ""
    of_seeds = "range over seeds" if seeds <= FEW_SEEDS else "95% interval over seeds"
    return of_seeds + (f" (one seed: {of_one})" if any(len(point.seeds) == 1 for point in points) else "")


def _draw_level(axes: Axes, point: CurvePoint, look: Mapping[str, Any]) -> None:
    """Draw the error of an arm without downstream examples as a line across the panel."""
    middle = panels.on_axis(point.median)
    if math.isfinite(middle):
        axes.axhline(middle, zorder=2, color=look["color"], linestyle=look["linestyle"], linewidth=1.0, alpha=0.7)


def _remark(records: Sequence[Record], model: str, arm: str) -> str:
    """Return e.g. `` (unsupported)`` if an arm has no score, and what scratch is at N = 0."""
    of_arm = [record for record in records if (record.model, record.protocol) == (model, arm)]
    words = {record.status for record in of_arm}
    if "ok" not in words:
        return f" ({', '.join(sorted(words))})"
    untrained = arm == SCRATCH and any(record.examples == 0 for record in of_arm)
    return " (N = 0: untrained)" if untrained else ""
