"""What figures of every kind share: a sheet of panels, the N axis, curves, the legend and the headline."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pdebench_fm.figures.distributions import HEIGHT, distribution_entries, draw_distributions
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import Curve, CurvePoint, make_curves
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables.wording import describe_parameters, describe_shift, natural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Made: TypeAlias = "list[tuple[str, list[str], Figure]]"
"""Detail of the name, models and figure, for each figure of a kind."""

Entry: TypeAlias = tuple[Mapping[str, Any], str]
"""One entry of a legend: the style of its line, and its text."""

ERROR_LABEL, SIZE_LABEL = "relative L₂ error", "downstream examples N"
WIDEST = 4
"""Most panels side by side."""

_SMALLEST = 1e-16  # where an error of exactly zero is drawn
_LEVELS = ("none", "mild", "med", "large")


@dataclass(frozen=True)
class TaskCurves:
    """The curves of one task, by (model, arm), and the records they are made from."""

    name: str
    records: tuple[Record, ...]
    curves: Mapping[tuple[str, str], Curve]

    def sizes(self, arm: str | None = None) -> list[int]:
        """Return every N that any model was tried at, on one arm or on all."""
        of_arm = [curve for (_, protocol), curve in self.curves.items() if arm in (None, protocol)]
        return sorted({n for curve in of_arm for n in (*(p.examples for p in curve.points), *curve.lacking)})


def by_task(records: Sequence[Record]) -> list[TaskCurves]:
    """Return the points of one suite, version and profile by task."""
    curves = make_curves(records)
    return [
        TaskCurves(
            name,
            tuple(record for record in records if record.task == name and record.kind == "point"),
            {(model, arm): curve for (model, task, arm), curve in curves.items() if task == name},
        )
        for name in sorted({task for _, task, _ in curves}, key=natural)
    ]


def quartiles(point: CurvePoint) -> tuple[float, float] | None:
    """Return the quartiles over seeds; None with one seed."""
    return point.quartiles if len(point.errors) > 1 else None


class Sheet:
    """A figure with a stack of panels for each task. All panels share one vertical axis."""

    def __init__(self, tasks: Sequence[TaskCurves], shifts: Shifts = UNKNOWN, rows: int = 1) -> None:
        """Lay out the panels.

        Args:
            tasks: one for each stack; stacks beyond `WIDEST` go to further lines.
            shifts: known distributions, drawn above the panels of their task.
            rows: panels in a stack.
        """
        from matplotlib.figure import Figure

        self.tasks, self.shifts = tasks, shifts
        self.zero_and_sizes = sorted({size for task in tasks for size in task.sizes()})
        self.trained = [size for size in self.zero_and_sizes if size > 0] or [1]
        lines = math.ceil(len(tasks) / WIDEST)
        self._columns = math.ceil(len(tasks) / lines)
        height = lines * (rows * (1.8 + (HEIGHT if shifts else 0)) + 0.45) + 0.6
        self.figure = Figure(figsize=(max(1.85 * self._columns + 0.5, 3.6), height), layout="constrained")
        grid = self.figure.subplots(lines * rows, self._columns, squeeze=False, sharey=True)
        places = [divmod(index, self._columns) for index in range(lines * self._columns)]
        stacks = [[grid[line * rows + row][column] for row in range(rows)] for line, column in places]
        self.stacks: list[list[Axes]] = stacks[: len(tasks)]
        for axes in (axes for stack in stacks[len(tasks) :] for axes in stack):
            axes.set_axis_off()

    def __iter__(self) -> Iterator[tuple[list[Axes], TaskCurves]]:
        return zip(self.stacks, self.tasks, strict=True)

    def size_axis(self, axes: Axes, with_zero: bool) -> None:
        """Make N the horizontal axis: logarithmic from the smallest N, with N = 0 two octaves before it."""
        axes.set_xscale("symlog", base=2, linthresh=self.trained[0], linscale=1)
        shown = [*([0] if with_zero else []), *self.trained[:: math.ceil(len(self.trained) / 5)]]
        axes.set_xticks(shown, labels=[short_size(size) for size in shown])
        axes.set_xticks([], minor=True)
        axes.set_xlim(-self.trained[0] / 4 if with_zero else self.trained[0] / 1.4, self.trained[-1] * 1.6)

    def dress(self, axes: Axes, task: TaskCurves, title: str | None = None) -> None:
        """Give a panel its grid, its title, and the distributions or the nominal shift above."""
        axes.grid(True, which="major", color="#E6E6E6", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(which="both", width=0.5, labelsize=7)
        room = (self.figure.get_figwidth() - 0.5) / self._columns - 0.1
        words = describe_shift(task.records)
        system = " and ".join(task.records[0].described.test.systems)
        lines = [fill((task.name if title is None else title) + (f", {system}" if system else ""), room)]
        known = task.name in self.shifts
        if known:
            draw_distributions(axes, self.shifts[task.name])
        if not known and (shift := task.records[0].shift) in _LEVELS:
            level = _LEVELS.index(shift) + 1
            words = f"{'■' * level}{'□' * (len(_LEVELS) - level)} {words}"
        axes.set_title("\n".join([*lines, *([words] if words else [])]), fontsize=7.5, pad=72 * HEIGHT if known else 6)

    def finish(self, entries: Iterable[Entry], headline: str, x: str = SIZE_LABEL, y: str = ERROR_LABEL) -> Figure:
        """Label the outer axes, and add the legend below and the headline above."""
        from matplotlib.lines import Line2D

        for index, stack in enumerate(self.stacks):
            if index % self._columns == 0:
                for axes in stack:
                    axes.set_ylabel(y)
            if index + self._columns >= len(self.stacks):
                stack[-1].set_xlabel(x)
        width = self.figure.get_figwidth()
        shown = [*entries, *distribution_entries(task.name in self.shifts for task in self.tasks)]
        labels = [fill(f" {text}" if text.startswith("_") else text, width - 0.6) for _, text in shown]
        longest = max(len(line) for label in labels for line in label.splitlines())
        columns = max(1, int(width / (0.063 * longest + 0.45)))
        rows = sum(1 + label.count("\n") for label in labels) / columns
        handles = [Line2D([], [], **look) for look, _ in shown]
        self.figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, fontsize=7.5, frameon=False, handlelength=2.6
        )
        title = fill(headline, width)
        self.figure.set_figheight(self.figure.get_figheight() + 0.16 * (math.ceil(rows) + title.count("\n")))
        self.figure.suptitle(title, fontsize=8)
        return self.figure

    def headline(self, models: Sequence[str], what: str = "") -> str:
        """Return where the scores come from, and the size of a single model."""
        records = [record for task in self.tasks for record in task.records]
        first = records[0]
        title = f"{first.suite} v{first.suite_version}, profile {first.profile}"
        if len(models) == 1:
            counts = {r.parameters for r in records if r.model == models[0] and r.parameters is not None}
            title += f": {models[0]}, {describe_parameters(sorted(counts))}"
        return title + (f" · {what}" if what else "")

    def special_entries(self) -> list[Entry]:
        """Return the legend entries of what has no place on the axis, if there is any: divergence, errors of zero."""
        cross = {"color": "black", "marker": "x", "linestyle": "none", "markersize": 4}
        records = [record for task in self.tasks for record in task.records]
        diverged = any(record.status == "diverged" for record in records)
        zero = any(record.metrics.get(SCORE, 1.0) < _SMALLEST for record in records)
        entries: list[Entry] = [(cross, "diverged")] if diverged else []
        return entries + ([({"linestyle": "none"}, f"errors below {_SMALLEST:g} are drawn there")] if zero else [])


def draw_curve(
    axes: Axes,
    curve: Curve,
    sizes: Sequence[int],
    look: Mapping[str, Any],
    spread: Callable[[CurvePoint], tuple[float, float] | None],
) -> None:
    """Draw medians and their spread. A size without an outcome breaks the line; N = 0 is a marker.

    Args:
        sizes: every N at which the curve could have a point.
        spread: ends of the spread of a point.
    """
    for part, style in (([n for n in sizes if n == 0], {**look, "linestyle": "none"}), ([n for n in sizes if n], look)):
        points = [curve.point(size) for size in part]
        if not any(points):
            continue
        axes.plot(part, [on_axis(None if point is None else point.median) for point in points], zorder=3, **style)
        ends = [(None if point is None else spread(point)) or (None, None) for point in points]
        lows, highs = [on_axis(low) for low, _ in ends], [on_axis(high) for _, high in ends]
        if any(low < high for low, high in zip(lows, highs, strict=True)):
            if len(part) > 1:
                axes.fill_between(part, lows, highs, color=look["color"], alpha=0.15, linewidth=0)
            axes.vlines(part, lows, highs, color=look["color"], linewidth=1.0, alpha=0.4)
    for point in curve.points:
        if math.inf in point.errors:
            mark_diverged(axes, point.examples, look["color"])


def mark_diverged(axes: Axes, place: float, colour: Any) -> None:
    """Mark a divergence by a cross at the top of the panel."""
    where = axes.get_xaxis_transform()
    axes.plot([place], [0.96], "x", color=colour, transform=where, markersize=4, clip_on=False, zorder=4)


def label_errors(axes: Axes) -> None:
    """Label 1, 2 and 5 of each decade if the axis spans few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if high / low < 50:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def on_axis(error: float | None) -> float:
    """Return the place of an error on a logarithmic axis; NaN, which breaks the line, if there is none."""
    return math.nan if error is None or not math.isfinite(error) else max(error, _SMALLEST)


def fill(text: str, inches: float) -> str:
    """Break a text of 8 points into lines of at most this width."""
    return textwrap.fill(text, max(8, int(inches / 0.065)), break_on_hyphens=False)


def short_size(size: float) -> str:
    """Return ``512``, ``2K`` (2048), as the paper labels its axes."""
    return f"{size / 1024:g}K" if size >= 1024 and size % 1024 == 0 else f"{size:g}"


def short_count(count: float) -> str:
    """Return a number of parameters with two digits: ``67K``, ``1.1M``."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{float(f'{count / unit:.2g}'):g}{name}"
    return f"{count:g}"
