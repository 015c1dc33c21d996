"""The parts that panels of every kind share: a grid of them, the N axis, the shift above, bands and marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from pdebench_fm.figures.around import fit_title
from pdebench_fm.figures.distributions import HEIGHT, draw_distributions
from pdebench_fm.figures.style import DARK, PALE, SMALLEST
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pdebench_fm.records.curves import Curve

ERROR_LABEL = "relative $L_2$ error"
SIZE_LABEL = "downstream examples $N$"
WIDEST = 4
"""Panels side by side; more go to further lines."""

_LEFT = 0.5  # inches for the label and the numbers left of the panels
_SHIFTS = ("none", "mild", "med", "large")


def make_panels(count: int, rows_each: int = 1, shifts: Shifts = UNKNOWN) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure, without any of pyplot's global state, and its panels.

    Args:
        count: how many groups of panels; a group is a column, and groups beyond `WIDEST` go to further lines.
        rows_each: panels of one group, on top of each other.
        shifts: distributions to stand above the panels; they make the figure higher.

    Returns:
        the figure, and for each group its panels from top to bottom. All share one vertical axis. There is room for a
        headline of one line; `around` makes more for what it adds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = math.ceil(count / WIDEST)
    columns = math.ceil(count / lines)
    height = 2.25 * lines + 0.6 + (rows_each - 1) * 1.75 * lines + (HEIGHT * lines * rows_each if shifts else 0)
    figure = Figure(figsize=(max(1.85 * columns + _LEFT, 3.6), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines * rows_each, columns, squeeze=False, sharey=True)
    groups = []
    for index in range(lines * columns):
        line, column = divmod(index, columns)
        stack = [axes[line * rows_each + row][column] for row in range(rows_each)]
        if index >= count:
            for panel in stack:
                panel.set_axis_off()
        else:
            groups.append(stack)
    return figure, groups


def label_outside(groups: Sequence[Sequence[Axes]], x: str, y: Sequence[str]) -> None:
    """Label the outer axes: ``x`` below the lowest panels, ``y`` (a text for each row of a group) left of the first."""
    columns = math.ceil(len(groups) / math.ceil(len(groups) / WIDEST))
    for index, stack in enumerate(groups):
        if index % columns == 0:
            for panel, text in zip(stack, y, strict=True):
                panel.set_ylabel(text, parse_math=text.count("$") == 2)
        if index + columns >= len(groups):
            stack[-1].set_xlabel(x)


def dress(axes: Axes, table: Table, shifts: Shifts = UNKNOWN, title: str | None = None) -> None:
    """Give a panel its grid, its title and the shift above.

    Args:
        axes: the panel.
        table: what it shows.
        shifts: those of the whole figure; a task that is not among them has its nominal shift drawn.
        title: the task's name where None.
    """
    axes.grid(True, which="major", color="#E6E6E6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", width=0.5, labelsize=7)
    figure, place = cast("Figure", axes.figure), axes.get_subplotspec()
    columns = 1 if place is None else place.get_gridspec().ncols
    room = (figure.get_figwidth() - _LEFT) / columns - 0.15
    text, size = fit_title(figure, table.task if title is None else title, room)
    axes.set_title(text, fontsize=size, pad=15 + (72 * HEIGHT if shifts else 0), parse_math=False)
    words = _describe_shift(table)
    if table.task in shifts:
        draw_distributions(axes, shifts[table.task], words, room)
    else:
        draw_boxes(axes, table.shift, words)


def draw_boxes(axes: Axes, shift: str, words: str) -> None:
    """Draw the nominal shift between title and panel: four small boxes, filled up to its level, and words beside."""
    from matplotlib.patches import Rectangle

    level = _SHIFTS.index(shift) if shift in _SHIFTS else -1
    if level >= 0:
        for index in range(len(_SHIFTS)):
            colour = DARK if index <= level else PALE
            box = Rectangle((0.02 + 0.07 * index, 1.035), 0.055, 0.035, transform=axes.transAxes, clip_on=False)
            box.set(facecolor=colour, edgecolor="none")
            axes.add_patch(box)
    if words:
        place = 0.33 if level >= 0 else 0.02
        axes.text(place, 1.03, words, transform=axes.transAxes, fontsize=6.5, color=DARK, parse_math=False)


def _describe_shift(table: Table) -> str:
    """The shift's name and its measure; nothing where it has no name."""
    if not table.shift:
        return ""
    return f"shift: {table.shift}" + (f", overlap {table.overlap:.2f}" if table.overlap is not None else "")


def size_axis(axes: Axes, sizes: Sequence[int], with_zero: bool) -> None:
    """Make N the horizontal axis: logarithmic, the sizes that were run as ticks, as many as there is room for.

    Args:
        axes: the panel.
        sizes: every N ≥ 1 of the figure.
        with_zero: whether N = 0 has a place, left of the smallest N and a cut in the axis.
    """
    axes.set_xscale("log", base=2)
    zero = zero_place(sizes)
    kept = sizes[:: math.ceil(len(sizes) / 5)]
    first = [zero] if with_zero else []
    axes.set_xticks([*first, *kept], labels=[*("0" for _ in first), *map(short_size, kept)])
    axes.set_xticks([], minor=True)
    axes.set_xlim((zero if with_zero else sizes[0]) / 1.6, sizes[-1] * 1.6)
    if with_zero:
        axes.plot(
            [zero * 2],
            [0],
            marker=(2, 0, -30),
            markersize=7,
            color="black",
            markeredgewidth=0.6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def zero_place(sizes: Sequence[int]) -> float:
    """Where N = 0 stands on a logarithmic axis."""
    return sizes[0] / 4


def trained_sizes(tables: Iterable[Table]) -> list[int]:
    """Every N ≥ 1 of a figure; [1] where there is none, so that an axis can be drawn."""
    return sorted({size for table in tables for size in table.sizes if size > 0}) or [1]


def tried_sizes(curve: Curve) -> list[int]:
    """Every N ≥ 1 that was tried, rising: those of the curve's points, and those that lack an outcome."""
    return sorted({*(point.examples for point in curve.trained), *(size for size in curve.lacking if size > 0)})


def short_size(size: float) -> str:
    """Return ``512``, ``2K`` (2048), as the paper labels its axes."""
    return f"{size / 1024:g}K" if size >= 1024 and size % 1024 == 0 else f"{size:g}"


def short_count(count: float) -> str:
    """Return a number of parameters with two digits: ``67K``, ``1.1M``."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= unit:
            return f"{float(f'{count / unit:.2g}'):g}{name}"
    return f"{count:g}"


def label_errors(axes: Axes) -> None:
    """Label 1, 2 and 5 of each decade where the (shared) axis spans too few powers of ten to be read by them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if high / low < 50:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def on_axis(error: float | None) -> float:
    """Return where an error stands on a logarithmic axis; NaN, which breaks the line, where there is none."""
    return math.nan if error is None or not math.isfinite(error) else max(error, SMALLEST)


def draw_band(
    axes: Axes, places: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: Any, alpha: float = 0.15
) -> None:
    """Fill between two curves of errors, only from one known place to the next; a place by itself has a bar.

    Args:
        axes: the panel.
        places: N, rising.
        lows: lower ends as drawn (`on_axis`); NaN where there is none.
        highs: upper ends, likewise.
        colour: of the band.
        alpha: its opacity.
    """
    runs: list[list[tuple[float, float, float]]] = [[]]
    for end in zip(places, lows, highs, strict=True):
        if all(map(math.isfinite, end)):
            runs[-1].append(end)
        else:
            runs.append([])
    for run in runs:
        if len(run) == 1:
            axes.vlines(*run[0], color=colour, linewidth=1.0, alpha=0.5)
        elif run:
            x, bottom, top = zip(*run, strict=True)
            axes.fill_between(x, bottom, top, color=colour, alpha=alpha, linewidth=0)


def mark_diverged(axes: Axes, place: float, colour: Any) -> None:
    """Mark a divergence by a cross at the top of the panel."""
    axes.plot(
        [place], [0.96], "x", color=colour, transform=axes.get_xaxis_transform(), markersize=4, clip_on=False, zorder=4
    )
