"""What stands around the panels, kept within the canvas: the legend below, the headline above, the titles of panels.

Names of models and tasks have any length, so widths are measured. A legend takes as many columns as fit; a headline is
broken into lines; where that is not enough the figure becomes wider. Rows of the legend and lines of the headline make
the figure higher, so that the panels keep their size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pdebench_fm.tables import Table, describe_parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Entry: TypeAlias = tuple[Mapping[str, Any], str]
"""One line of a legend: the style of its line, and its text."""

TITLE_SIZE, LEGEND_SIZE = 8.0, 7.5
PAGE = 6.9
"""Inches a figure may be widened to for a lower legend: a page of text."""

_MOST_ROWS = 8
_MARGIN = 0.08  # inches left free on either side
_SPACING = {"handlelength": 2.6, "handletextpad": 0.7, "columnspacing": 1.6, "borderpad": 0.3, "borderaxespad": 0.3}
_EMPTY: Entry = ({"linestyle": "none"}, "")


@dataclass(frozen=True)
class _Arrangement:
    """A legend's entries by column, all of the same height, and its width in inches."""

    columns: list[list[Entry]]
    width: float

    @property
    def rows(self) -> int:
        return len(self.columns[0])


def add_legend(figure: Figure, blocks: Iterable[Sequence[Entry]]) -> None:
    """Add one legend below all panels; texts are never read as mathematics.

    Args:
        figure: becomes higher by the legend, and wider where that cannot be helped.
        blocks: entries that stay in one column, in their order.
    """
    from matplotlib.lines import Line2D

    chosen = _arrange(figure, [list(block) for block in blocks if block])
    entries = [entry for column in chosen.columns for entry in column]
    legend = figure.legend(
        [Line2D([], [], **look) for look, _ in entries],
        ["-"] * len(entries),
        loc="outside lower center",
        ncols=len(chosen.columns),
        frameon=False,
        fontsize=LEGEND_SIZE,
        **_SPACING,
    )
    for text, (_, label) in zip(legend.get_texts(), entries, strict=True):  # set here: a label may begin with "_"
        text.set_text(label)
        text.set_parse_math(False)
    _widen(figure, chosen.width)
    figure.set_figheight(figure.get_figheight() + legend.get_window_extent(_renderer(figure)).height / figure.dpi)


def add_headline(figure: Figure, text: str) -> None:
    """Write a headline above all panels, on as many lines as it needs."""
    lines = wrap(figure, text, TITLE_SIZE, figure.get_figwidth() - 2 * _MARGIN)
    _widen(figure, max(text_width(figure, line, TITLE_SIZE) for line in lines) + 2 * _MARGIN)
    figure.set_figheight(figure.get_figheight() + (len(lines) - 1) * 1.25 * TITLE_SIZE / 72)
    figure.suptitle("\n".join(lines), fontsize=TITLE_SIZE, parse_math=False)


def headline(tables: Sequence[Table], models: Sequence[str], what: str = "") -> str:
    """Return where the scores come from; of a single model, its name and size."""
    first = tables[0]
    title = f"{first.suite} v{first.suite_version}, profile {first.profile}"
    if len(models) == 1:
        counts = sorted({count for table in tables for count in table.parameters.get(models[0], ())})
        title += f": {models[0]}, {describe_parameters(counts)}"
    return title + (f" · {what}" if what else "")


def diverged_entry(tables: Iterable[Table]) -> list[Entry]:
    """Return the legend's entry for a divergence, where there is one."""
    cells = [cell for table in tables for row in table.rows for cell in row.cells.values()]
    if any(record.status == "diverged" for cell in cells for record in cell.records):
        return [({"color": "black", "marker": "x", "linestyle": "none", "markersize": 4}, "diverged")]
    return []


def fit_title(figure: Figure, text: str, width: float) -> tuple[str, float]:
    """Return a panel's title, broken into lines, and its size in points: smaller where one word is too long."""
    lines = wrap(figure, text, TITLE_SIZE, width)
    longest = max(text_width(figure, line, TITLE_SIZE) for line in lines)
    return "\n".join(lines), TITLE_SIZE * width / max(width, longest)


def wrap(figure: Figure, text: str, size: float, width: float) -> list[str]:
    """Break a text that is too long into lines, at a point if it has one, or else at commas and colons, or words.

    Args:
        figure: where it will stand.
        text: one line.
        size: of its letters, in points.
        width: inches there is room for; a longer word has a line of its own.
    """
    if text_width(figure, text, size) <= width:
        return [text]
    for place in (r"(?<=·) ", r"(?<=[,:;]) ", " "):
        parts = re.split(place, text)
        if len(parts) > 1:
            break
    else:
        return [text]
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} {part}"
        if text_width(figure, longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return [shorter for line in lines for shorter in wrap(figure, line.removesuffix(" ·"), size, width)]


def text_width(figure: Figure, text: str, size: float) -> float:
    """Return the width of a text in inches, a little more: letters are hinted differently at other resolutions."""
    from matplotlib.text import Text

    probe = Text(0, 0, text, fontsize=size, parse_math=False)
    probe.set_figure(figure)
    return float(1.02 * probe.get_window_extent(_renderer(figure)).width / figure.dpi)


def _arrange(figure: Figure, blocks: Sequence[list[Entry]]) -> _Arrangement:
    """Choose the lowest legend that fits into the figure, or into a page where it would be higher than is sensible."""
    widths = {text: text_width(figure, text, LEGEND_SIZE) for block in blocks for _, text in block}
    widths[""] = 0.0
    found: list[_Arrangement] = []
    for rows in range(max(map(len, blocks)), sum(map(len, blocks)) + 1):
        columns = _pack(blocks, rows)
        if not found or len(columns) < len(found[-1].columns):
            found.append(_Arrangement(columns, _legend_width(columns, widths)))
    given = figure.get_figwidth()
    low = [one for one in found if one.rows <= _MOST_ROWS]
    fitting = [one for one in low if one.width <= given]
    if fitting:
        return fitting[0]
    on_page = [one for one in low if one.width <= max(given, PAGE)]
    if on_page:
        return on_page[-1]
    return next((one for one in found if one.width <= max(given, PAGE)), found[-1])


def _pack(blocks: Sequence[list[Entry]], rows: int) -> list[list[Entry]]:
    """Return blocks in columns of ``rows`` entries, filled up by empty ones; no block is longer than that."""
    columns: list[list[Entry]] = [[]]
    for block in blocks:
        if len(columns[-1]) + len(block) > rows:
            columns.append([])
        columns[-1] = columns[-1] + block
    tallest = max(map(len, columns))
    return [column + [_EMPTY] * (tallest - len(column)) for column in columns]


def _legend_width(columns: Sequence[Sequence[Entry]], widths: Mapping[str, float]) -> float:
    """Return the width of a legend in inches, its distance to the edges included."""
    letter = LEGEND_SIZE / 72
    handles = len(columns) * (_SPACING["handlelength"] + _SPACING["handletextpad"])
    between = (len(columns) - 1) * _SPACING["columnspacing"] + 2 * _SPACING["borderpad"]
    texts = sum(max(widths[text] for _, text in column) for column in columns)
    return texts + letter * (handles + between) + 2 * _MARGIN


def _widen(figure: Figure, width: float) -> None:
    """Make a figure at least so wide, in inches."""
    if width > figure.get_figwidth():
        figure.set_figwidth(math.ceil(100 * width) / 100)


def _renderer(figure: Figure) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if not isinstance(figure.canvas, FigureCanvasAgg):
        raise TypeError(f"canvas must be a FigureCanvasAgg, got {type(figure.canvas).__name__}")
    return figure.canvas.get_renderer()  # type: ignore[no-untyped-call]
