"""The models of a family beside each other: error against N for every size, and error against parameters (Fig. 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pdebench_fm.figures import around, panels
from pdebench_fm.figures.distributions import distribution_entries
from pdebench_fm.figures.style import line_style, ordered_colours
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import Curve, family, make_curves, transfer_curves
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables import Table, arm_order, build_table, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "scores of two models of one family that differ in size"
_MOST_SIZES = 5  # N of the figure against parameters: more could not be told apart


@dataclass(frozen=True)
class Family:
    """Models of one family, the smallest first, and their curves by (task, arm), in the same order."""

    name: str
    models: tuple[str, ...]
    parameters: Mapping[str, int]
    tables: tuple[Table, ...]
    curves: Mapping[tuple[str, str], Mapping[str, Curve]]

    @property
    def arms(self) -> list[str]:
        """All arms, scratch last."""
        return sorted({arm for _, arm in self.curves}, key=arm_order)


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> list[tuple[str, list[str], Figure]]:
    """Return error against N, a line for each size, for every family of one suite, version and profile."""
    return [(found.name, list(found.models), _against_examples(found, shifts)) for found in families(records)]


def make_parameters(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> list[tuple[str, list[str], Figure]]:
    """Return error against parameters, a line for each N, for every family of one suite, version and profile."""
    return [(found.name, list(found.models), _against_parameters(found, shifts)) for found in families(records)]


def families(records: Sequence[Record]) -> Iterator[Family]:
    """Yield every family with at least two different sizes among its scores."""
    members: dict[str, list[Record]] = {}
    for record in records:
        members.setdefault(family(record), []).append(record)
    for name in sorted(members, key=natural):
        scored = [r for r in members[name] if SCORE in r.metrics and r.parameters is not None]
        parameters = {r.model: r.parameters for r in sorted(scored, key=lambda r: r.parameters or 0)}
        if len(set(parameters.values())) < 2:
            continue
        models = tuple(sorted(parameters, key=lambda model: (parameters[model], natural(model))))
        mine = [record for record in members[name] if record.model in parameters]
        curves = make_curves(mine)
        found: dict[tuple[str, str], dict[str, Curve]] = {}
        for task in {record.task for record in mine}:
            for model in models:
                of_model = {arm: c for (m, t, arm), c in curves.items() if (m, t) == (model, task)}
                from_scratch = (curve for curve in of_model.values() if curve.from_scratch)
                for curve in (*transfer_curves(of_model), *from_scratch):
                    found.setdefault((task, curve.protocol), {})[model] = curve
        known = {model: count for model, count in parameters.items() if count is not None}
        yield Family(name, models, known, tuple(build_table(mine)), found)


def _against_examples(found: Family, shifts: Shifts) -> Figure:
    figure, groups = panels.make_panels(len(found.tables), len(found.arms), shifts)
    sizes = panels.trained_sizes(found.tables)
    colours = ordered_colours(len(found.models))
    looks = {m: {**line_style(colours[i], i), "linestyle": "-"} for i, m in enumerate(found.models)}
    for stack, table in zip(groups, found.tables, strict=True):
        for panel, arm in zip(stack, found.arms, strict=True):
            panel.set_yscale("log")
            panels.size_axis(panel, sizes, with_zero=0 in table.sizes)
            for model, curve in found.curves.get((table.task, arm), {}).items():
                _draw_curve(panel, curve, sizes, looks[model])
            panels.dress(panel, table, shifts, f"{table.task}, {arm}")
    panels.label_outside(groups, panels.SIZE_LABEL, [panels.ERROR_LABEL] * len(found.arms))
    panels.label_errors(groups[0][0])
    names = [f"{model} ({panels.short_count(found.parameters[model])})" for model in found.models]
    _surround(figure, found, shifts, looks.values(), names, f"{found.name} by size; zero-shot at N = 0")
    return figure


def _draw_curve(axes: Axes, curve: Curve, sizes: Sequence[int], look: Mapping[str, Any]) -> None:
    """Draw medians and quartiles over seeds; a size without an outcome breaks the line."""
    if (at_zero := curve.point(0)) is not None:
        axes.plot([panels.zero_place(sizes)], [panels.on_axis(at_zero.median)], **{**look, "linestyle": "none"})
    tried = panels.tried_sizes(curve)
    points = [curve.point(size) for size in tried]
    axes.plot(tried, [panels.on_axis(None if p is None else p.median) for p in points], zorder=3, **look)
    for point in curve.trained:
        if len(point.errors) > 1 and math.isfinite(point.quartiles[1]):
            low, high = map(panels.on_axis, point.quartiles)
            axes.vlines(point.examples, low, high, color=look["color"], linewidth=1.0, alpha=0.5)
    for point in curve.points:
        if math.inf in point.errors:
            panels.mark_diverged(axes, point.examples or panels.zero_place(sizes), look["color"])


def _against_parameters(found: Family, shifts: Shifts) -> Figure:
    figure, groups = panels.make_panels(len(found.tables), len(found.arms), shifts)
    sizes = sorted({size for table in found.tables for size in table.sizes})
    kept = _spread_out(sizes, _MOST_SIZES)
    colours = ordered_colours(len(kept))
    looks = {size: {**line_style(colours[i], i), "linestyle": "-"} for i, size in enumerate(kept)}
    for stack, table in zip(groups, found.tables, strict=True):
        for panel, arm in zip(stack, found.arms, strict=True):
            panel.set_yscale("log")
            panel.set_xscale("log")
            for size in kept:
                _draw_size(panel, found, found.curves.get((table.task, arm), {}), size, looks[size])
            _count_axis(panel, found)
            panels.dress(panel, table, shifts, f"{table.task}, {arm}")
    panels.label_outside(groups, "parameters", [panels.ERROR_LABEL] * len(found.arms))
    panels.label_errors(groups[0][0])
    names = ["N = 0" if size == 0 else f"N = {panels.short_size(size)}" for size in kept]
    _surround(
        figure, found, shifts, looks.values(), names, f"{found.name} at fixed N; N = 0 is zero-shot, or untrained"
    )
    return figure


def _surround(
    figure: Figure, found: Family, shifts: Shifts, looks: Iterable[Mapping[str, Any]], names: Sequence[str], what: str
) -> None:
    entries: list[around.Entry] = list(zip(looks, names, strict=True))
    entries += around.diverged_entry(found.tables)
    around.add_legend(figure, [*([entry] for entry in entries), distribution_entries(found.tables, shifts)])
    around.add_headline(figure, around.headline(found.tables, (), what))


def _draw_size(axes: Axes, found: Family, curves: Mapping[str, Curve], size: int, look: Mapping[str, Any]) -> None:
    """Draw the measured medians at one N; a model without an outcome there breaks the line."""
    points = {m: curves[m].point(size) if m in curves else None for m in found.models}
    if not any(points.values()):
        return
    errors = [panels.on_axis(None if point is None else point.median) for point in points.values()]
    axes.plot([found.parameters[m] for m in points], errors, zorder=3, **look)
    for model, point in points.items():
        if point is not None and math.inf in point.errors:
            panels.mark_diverged(axes, found.parameters[model], look["color"])


def _count_axis(axes: Axes, found: Family) -> None:
    counts = sorted(set(found.parameters.values()))
    axes.set_xlim(counts[0] / 1.8, counts[-1] * 1.8)
    shown = _spread_out(counts, 5)
    axes.set_xticks(shown, labels=[panels.short_count(count) for count in shown])
    axes.set_xticks([], minor=True)


def _spread_out(values: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the values, evenly chosen, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(index * (len(values) - 1) / (most - 1))] for index in range(most)]
