"""Figures of error against the number of downstream examples, one panel per task, for print.

Colour tells the arm (Okabe and Ito's palette, safe for colour-blind readers), marker and line style tell the model.
Drawing is deterministic: the same records give the same bytes with the same version of matplotlib.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdebench_fm.records import Record
from pdebench_fm.tables import METRIC, Row, Summary, Table, arm_order, build_table, describe_parameters

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"zero-shot": "#009E73", "fine-tune": "#0072B2", "scratch": "#D55E00"}
_MORE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)))
_DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (1.5, 1.5)), (0, (8, 2)), (0, (4, 2, 1, 2)))
_SHIFTS = ("none", "mild", "med", "large")
_PALE, _DARK = "#DDDDDD", "#444444"
_SMALLEST = 1e-16  # an error of exactly zero has no place on a logarithmic axis


def draw(records: Iterable[Record], folder: Path) -> list[Path]:
    """Draw one figure for every suite, version and profile that has a score.

    Args:
        records: of any number of suites and models; pre-trainings are left out.
        folder: where the files go; made where it does not exist.

    Returns:
        the files written, a PNG (300 dpi) and a PDF for each figure.
    """
    import matplotlib as mpl
    from matplotlib import style

    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        if record.kind == "point":
            groups.setdefault((record.suite, record.suite_version, record.profile), []).append(record)
    written = []
    for (suite, version, profile), group in sorted(groups.items()):
        if not any(METRIC in record.metrics for record in group):
            continue
        models = sorted({record.model for record in group})
        name = file_stem(suite, f"v{version}", profile, *(models if len(models) == 1 else [f"{len(models)} models"]))
        folder.mkdir(parents=True, exist_ok=True)
        with style.context("default"), mpl.rc_context({"font.size": 8, "axes.linewidth": 0.6, "pdf.fonttype": 42}):
            figure = make_figure(build_table(group))
            for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
                path = folder / (name + suffix)
                figure.savefig(path, dpi=300, metadata=metadata)
                written.append(path)
    return written


def file_stem(*parts: str) -> str:
    """Return a file name safe on every platform; two different names never share one.

    >>> file_stem("smoke", "v1", "lite")
    'smoke-v1-lite'
    """
    text = "-".join(parts)
    stem = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:80]
    return stem if stem == text else f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-")


def make_figure(tables: Sequence[Table]) -> Figure:
    """Draw the tables of one suite, version and profile, without any of pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = math.ceil(len(tables) / 4)
    columns = math.ceil(len(tables) / lines)
    figure = Figure(figsize=(max(1.85 * columns + 0.5, 3.6), 2.25 * lines + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    looks = Looks(tables)
    sizes = sorted({size for table in tables for size in table.sizes if size > 0}) or [1]
    for index, panel in enumerate(axes.flat):
        if index >= len(tables):
            panel.set_axis_off()
            continue
        _draw_panel(panel, tables[index], looks, sizes)
        if index % columns == 0:
            panel.set_ylabel("relative $L_2$ error")
        if index + columns >= len(tables):
            panel.set_xlabel("downstream examples $N$")
    _label_errors(axes.flat[0])
    _add_legend(figure, tables, looks)
    return figure


def _label_errors(axes: Axes) -> None:
    """Label 1, 2 and 5 of each decade where the (shared) axis spans too few powers of ten to be read by them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if high / low < 50:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


class Looks:
    """Which colour, marker and line style stand for what, the same in all panels of a figure."""

    def __init__(self, tables: Sequence[Table]) -> None:
        arms = sorted({row.protocol for table in tables for row in table.rows}, key=arm_order)
        others = [arm for arm in arms if arm not in COLOURS]
        self.arms = arms
        self.models = sorted({model for table in tables for model in table.models})
        self.colours = {**COLOURS, **{a: _MORE_COLOURS[i % len(_MORE_COLOURS)] for i, a in enumerate(others)}}

    def line(self, row: Row) -> Mapping[str, Any]:
        """Style of an arm's line over N."""
        index = self.models.index(row.model)
        return {
            "color": self.colours[row.protocol],
            "marker": _MARKERS[index % len(_MARKERS)],
            "linestyle": _STYLES[index % len(_STYLES)],
            "linewidth": 1.2,
            "markersize": 3.6,
            "markeredgewidth": 0.4,
            "markeredgecolor": "white",
        }

    def level(self, row: Row) -> Mapping[str, Any]:
        """Style of the horizontal line of an arm without downstream examples."""
        index = self.models.index(row.model)
        return {"color": self.colours[row.protocol], "linestyle": _DASHES[index % len(_DASHES)], "linewidth": 1.1}


def _draw_panel(axes: Axes, table: Table, looks: Looks, sizes: Sequence[int]) -> None:
    """Draw one task; N = 0 has a place of its own, left of the smallest N."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    zero = sizes[0] / 4
    for row in table.rows:
        alone = set(row.cells) == {0}
        style = looks.line(row)
        if alone and (middle := row.cells[0].median) is not None:
            axes.axhline(max(middle, _SMALLEST), zorder=2, **looks.level(row))
            if row.cells[0].spread is not None:
                low, high = row.cells[0].spread
                axes.axhspan(max(low, _SMALLEST), max(high, _SMALLEST), color=style["color"], alpha=0.15, linewidth=0)
        if 0 in row.cells:
            _draw_line(axes, [(zero, row.cells[0])], {**style, "linestyle": "none"}, spread=not alone)
        _draw_line(axes, [(float(size), cell) for size, cell in row.cells.items() if size > 0], style)
        for size, cell in row.cells.items():
            if any(record.status == "diverged" for record in cell.records):
                place, at_top = size or zero, axes.get_xaxis_transform()
                axes.plot([place], [0.96], "x", color=style["color"], transform=at_top, markersize=4, clip_on=False)
    has_zero = any(0 in row.cells for row in table.rows)
    _set_ticks(axes, zero if has_zero else None, sizes)
    axes.grid(True, which="major", color="#E6E6E6", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", width=0.5, labelsize=7)
    axes.set_title(table.task, fontsize=8, pad=15, parse_math=False)
    _draw_shift(axes, table.shift)


def _draw_line(
    axes: Axes, points: Sequence[tuple[float, Summary]], style: Mapping[str, Any], spread: bool = True
) -> None:
    """Draw medians and their spread; where a size has no score the line is broken, never bridged."""
    if not points:
        return
    places = [place for place, _ in points]
    middles = [math.nan if cell.median is None else max(cell.median, _SMALLEST) for _, cell in points]
    axes.plot(places, middles, zorder=3, **style)
    if not spread:
        return
    spreads = [cell.spread or (middle, middle) for (_, cell), middle in zip(points, middles, strict=True)]
    lows = [max(low, _SMALLEST) for low, _ in spreads]
    highs = [max(high, _SMALLEST) for _, high in spreads]
    if len(places) == 1:
        axes.vlines(places, lows, highs, color=style["color"], linewidth=1.0, alpha=0.5)
    else:
        axes.fill_between(places, lows, highs, color=style["color"], alpha=0.15, linewidth=0)


def _set_ticks(axes: Axes, zero: float | None, sizes: Sequence[int]) -> None:
    """Label the sizes that were run, as many as there is room for."""
    step = math.ceil(len(sizes) / 5)
    kept = sizes[::step]
    first = [zero] if zero is not None else []
    axes.set_xticks([*first, *kept], labels=[*("0" for _ in first), *map(_short_size, kept)])
    axes.set_xticks([], minor=True)
    axes.set_xlim((zero or sizes[0]) / 1.6, sizes[-1] * 1.6)
    if zero is not None:  # a cut in the axis, since 0 has no place on it
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


def _short_size(size: int) -> str:
    return f"{size // 1024}K" if size >= 1024 and size % 1024 == 0 else str(size)


def _draw_shift(axes: Axes, shift: str) -> None:
    """Draw the shift between title and panel: four small boxes, filled up to its level, and its name."""
    from matplotlib.patches import Rectangle

    level = _SHIFTS.index(shift) if shift in _SHIFTS else -1
    if level >= 0:
        for index in range(len(_SHIFTS)):
            colour = _DARK if index <= level else _PALE
            box = Rectangle((0.02 + 0.07 * index, 1.035), 0.055, 0.035, transform=axes.transAxes, clip_on=False)
            box.set(facecolor=colour, edgecolor="none")
            axes.add_patch(box)
    if shift:
        place = 0.33 if level >= 0 else 0.02
        axes.text(place, 1.03, f"shift: {shift}", transform=axes.transAxes, fontsize=6.5, color=_DARK, parse_math=False)


def _add_legend(figure: Figure, tables: Sequence[Table], looks: Looks) -> None:
    """Add one legend below all panels, and above them where the scores come from."""
    from matplotlib.lines import Line2D

    rows = {(row.model, row.protocol): row for table in tables for row in table.rows}
    handles, labels = [], []
    for model in looks.models:
        for arm in looks.arms:
            row = rows.get((model, arm))
            if row is None:
                continue
            cells = [r.cells for table in tables for r in table.rows if (r.model, r.protocol) == (model, arm)]
            alone = all(set(found) <= {0} for found in cells)
            look = {**looks.line(row), **(looks.level(row) if alone else {})}
            handles.append(Line2D([], [], **look))
            words = {record.status for found in cells for cell in found.values() for record in cell.records}
            without = f" ({', '.join(sorted(words))})" if words and "ok" not in words else ""
            labels.append((arm if len(looks.models) == 1 else f"{model}, {arm}") + without)
    if any(r.status == "diverged" for t in tables for row in t.rows for c in row.cells.values() for r in c.records):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="none", markersize=4))
        labels.append("diverged")
    columns = 4
    if 1 < len(looks.models) <= 3 and len(rows) == len(looks.models) * len(looks.arms):  # a column for each model
        columns = math.ceil(len(handles) / len(looks.arms))
        padding = columns * len(looks.arms) - len(handles)
        handles += [Line2D([], [], linestyle="none") for _ in range(padding)]
        labels += [""] * padding
    legend = figure.legend(
        handles, ["-"] * len(labels), loc="outside lower center", ncols=columns, frameon=False, fontsize=7.5
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):  # set here: a label may begin with "_" or hold "$"
        text.set_text(label)
        text.set_parse_math(False)
    first = tables[0]
    title = f"{first.suite} v{first.suite_version}, profile {first.profile}"
    if len(looks.models) == 1:
        counts = sorted({count for table in tables for count in table.parameters[looks.models[0]]})
        title += f": {looks.models[0]}, {describe_parameters(counts)}"
    figure.suptitle(title, fontsize=8, parse_math=False)
