"""The models of a family side by side: error against N for each size, and error against parameters (Fig. 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pdebench_fm._util.grouping import grouped
from pdebench_fm.figures import panels
from pdebench_fm.figures.style import line_style, ordered_colours
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import Curve, family, transfer_curves
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables.wording import arm_order, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "scores of two models of one family that differ in size"
_MOST_SIZES = 5  # most N in the figure against parameters


@dataclass(frozen=True)
class Family:
    """Models of one family.

    Args:
        parameters: number of parameters by model, the smallest first.
        tasks: their curves; zero-shot is the N = 0 of fine-tuning.
    """

    name: str
    parameters: Mapping[str, int]
    tasks: Sequence[panels.TaskCurves]

    @property
    def arms(self) -> list[str]:
        """All arms, scratch last."""
        return sorted({arm for task in self.tasks for _, arm in task.curves}, key=arm_order)


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> panels.Made:
    """Return error against N, with a line for each size, for every family of one suite, version and profile."""
    return [(found.name, list(found.parameters), _against_examples(found, shifts)) for found in families(records)]


def make_parameters(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> panels.Made:
    """Return error against parameters, with a line for each N, for every family of one suite, version and profile."""
    return [(found.name, list(found.parameters), _against_parameters(found, shifts)) for found in families(records)]


def families(records: Sequence[Record]) -> Iterator[Family]:
    """Yield every family with at least two different sizes among its scores."""
    members = grouped(records, family)
    for name in sorted(members, key=natural):
        counts = {r.model: r.parameters for r in members[name] if SCORE in r.metrics and r.parameters is not None}
        if len(set(counts.values())) < 2:
            continue
        parameters = dict(sorted(counts.items(), key=lambda item: (item[1], natural(item[0]))))
        tasks = panels.by_task([record for record in members[name] if record.model in parameters])
        yield Family(name, parameters, [_merged(task) for task in tasks])


def _merged(task: panels.TaskCurves) -> panels.TaskCurves:
    """Make zero-shot the N = 0 of fine-tuning."""
    curves: dict[tuple[str, str], Curve] = {}
    for model in {model for model, _ in task.curves}:
        of_model = {arm: curve for (other, arm), curve in task.curves.items() if other == model}
        fresh = [curve for curve in of_model.values() if curve.from_scratch]
        curves |= {(model, curve.protocol): curve for curve in (*transfer_curves(of_model), *fresh)}
    return replace(task, curves=curves)


def _against_examples(found: Family, shifts: Shifts) -> Figure:
    sheet = panels.Sheet(found.tasks, shifts, rows=len(found.arms))
    looks = _looks(list(found.parameters))
    for stack, task in sheet:
        for axes, arm in zip(stack, found.arms, strict=True):
            axes.set_yscale("log")
            sheet.size_axis(axes, with_zero=0 in task.sizes())
            for model in found.parameters:
                if (curve := task.curves.get((model, arm))) is not None:
                    panels.draw_curve(axes, curve, task.sizes(arm), looks[model], panels.quartiles)
            sheet.dress(axes, task, f"{task.name}, {arm}")
    panels.label_errors(sheet.stacks[0][0])
    names = [(looks[model], f"{model} ({panels.short_count(count)})") for model, count in found.parameters.items()]
    headline = sheet.headline((), f"{found.name} by size; zero-shot at N = 0")
    return sheet.finish([*names, *sheet.special_entries()], headline)


def _against_parameters(found: Family, shifts: Shifts) -> Figure:
    sheet = panels.Sheet(found.tasks, shifts, rows=len(found.arms))
    kept = _spread_out(sheet.zero_and_sizes, _MOST_SIZES)
    looks = _looks(kept)
    counts = sorted(set(found.parameters.values()))
    shown = _spread_out(counts, 5)
    for stack, task in sheet:
        for axes, arm in zip(stack, found.arms, strict=True):
            axes.set_yscale("log")
            axes.set_xscale("log")
            for size in kept:
                _draw_size(axes, found, task, (arm, size), looks[size])
            axes.set_xlim(counts[0] / 1.8, counts[-1] * 1.8)
            axes.set_xticks(shown, labels=[panels.short_count(count) for count in shown])
            axes.set_xticks([], minor=True)
            sheet.dress(axes, task, f"{task.name}, {arm}")
    panels.label_errors(sheet.stacks[0][0])
    names = [(looks[size], f"N = {panels.short_size(size)}") for size in kept]
    headline = sheet.headline((), f"{found.name} at fixed N; N = 0 is zero-shot, or untrained")
    return sheet.finish([*names, *sheet.special_entries()], headline, x="parameters")


def _draw_size(
    axes: Axes, found: Family, task: panels.TaskCurves, place: tuple[str, int], look: Mapping[str, Any]
) -> None:
    """Draw the medians of one arm at one N. A model without an outcome breaks the line."""
    arm, size = place
    curves = [task.curves.get((model, arm)) for model in found.parameters]
    points = [None if curve is None else curve.point(size) for curve in curves]
    if any(points):
        errors = [math.nan if point is None else panels.on_axis(point.median) for point in points]
        axes.plot(list(found.parameters.values()), errors, zorder=3, **look)
    for count, point in zip(found.parameters.values(), points, strict=True):
        if point is not None and math.inf in point.errors:
            panels.mark_diverged(axes, count, look["color"])


def _looks(ordered: Sequence[Any]) -> dict[Any, dict[str, Any]]:
    """Return the style of each line, from light to dark."""
    colours = ordered_colours(len(ordered))
    return {key: {**line_style(colours[i], i), "linestyle": "-"} for i, key in enumerate(ordered)}


def _spread_out(values: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the values, evenly chosen, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]
