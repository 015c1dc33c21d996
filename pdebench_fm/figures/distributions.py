"""The distributions of the physics parameter above a panel, as in the paper's Figs. 3, 5 and A.2.

Pre-training is filled, downstream an outline, over one axis and in the same bins. Heights are parts of all examples, to
one scale, so that what the two share is the overlap, but for the width of the bins. Lengths are in inches: above panels
of any height the distributions have the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from pdebench_fm.figures.around import Entry, text_width
from pdebench_fm.figures.style import DARK, GREY
from pdebench_fm.scoring.shift import Distributions, Shifts
from pdebench_fm.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2DBase, Transform

HEIGHT = 0.29
"""How much more room they take than the boxes that stand for the nominal shift."""

_FILL = "#C8C8C8"
_NUMBERS, _BASE, _TOP, _WORDS = 0.035, 0.13, 0.315, 0.358  # inches above the panel
_NUMBER_SIZE, _WORD_SIZE = 5.5, 6.5
_TRACE = 0.002  # a part so small has no outline, which would only thicken the base
_SWATCH = {"marker": "s", "linestyle": "none", "markersize": 6}


def draw_distributions(axes: Axes, shown: Distributions, words: str, width: float) -> None:
    """Draw both distributions between a panel and its title.

    Args:
        axes: the panel; the distributions are as wide.
        shown: what to draw.
        words: stand above it: the shift's name and measure.
        width: of the panel, about, in inches.
    """
    place = _above(axes)
    low, high = shown.edges[0], shown.edges[-1]
    across = [(edge - low) / (high - low) for edge in shown.edges]
    scale = (_TOP - _BASE) / max(*shown.pretraining, *shown.downstream)
    for corners in _steps(across, [scale * part for part in shown.pretraining]):
        _add_path(axes, place, corners, {"facecolor": _FILL, "edgecolor": "none"})
    line = {"fill": False, "edgecolor": DARK, "linewidth": 0.8, "joinstyle": "miter"}
    for corners in _steps(across, [scale * part if part > _TRACE else 0.0 for part in shown.downstream]):
        _add_path(axes, place, corners, line)
    _add_path(axes, place, [(0, _BASE), (1, _BASE)], {"fill": False, "edgecolor": GREY, "linewidth": 0.5})
    _name_axis(axes, shown, width, place)
    axes.text(0.5, _WORDS, words, transform=place, ha="center", fontsize=_WORD_SIZE, color=DARK, parse_math=False)


def distribution_entries(tables: Sequence[Table], shifts: Shifts) -> list[Entry]:
    """Return the legend's entries for what stands above the panels, where it does above any; they belong together."""
    if not any(table.task in shifts for table in tables):
        return []
    filled = {**_SWATCH, "color": _FILL, "markeredgewidth": 0}
    outlined = {**_SWATCH, "markerfacecolor": "none", "markeredgecolor": DARK, "markeredgewidth": 0.8}
    return [(filled, "above: pre-training"), (outlined, "above: downstream")]


def _above(axes: Axes) -> Transform:
    """Across the panel as a part of its width; up in inches from its top."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    top = ScaledTranslation(0, 1, cast("Affine2DBase", axes.transAxes))
    up = cast("Figure", axes.figure).dpi_scale_trans + top
    return blended_transform_factory(axes.transAxes, up)


def _steps(edges: Sequence[float], heights: Sequence[float]) -> Iterator[list[tuple[float, float]]]:
    """Yield the outline of each run of bins that hold something, from the base up and back to it."""
    corners: list[tuple[float, float]] = []
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        if height > 0:
            corners += [*([] if corners else [(left, _BASE)]), (left, _BASE + height), (right, _BASE + height)]
        elif corners:
            yield [*corners, (corners[-1][0], _BASE)]
            corners = []
    if corners:
        yield [*corners, (corners[-1][0], _BASE)]


def _add_path(axes: Axes, place: Transform, corners: Sequence[tuple[float, float]], look: Mapping[str, Any]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    axes.add_artist(PathPatch(Path(corners), transform=place, clip_on=False, **look))


def _name_axis(axes: Axes, shown: Distributions, width: float, place: Transform) -> None:
    """Write the ends of the axis below it and the parameter's name between them, smaller where it is long."""
    figure = cast("Figure", axes.figure)
    common: dict[str, Any] = {"transform": place, "color": DARK, "parse_math": False}
    ends = [f"{end:.3g}" for end in shown.ends]
    for side, where, end in zip((0, 1), ("left", "right"), ends, strict=True):
        axes.text(side, _NUMBERS, end, ha=where, fontsize=_NUMBER_SIZE, **common)
    room = width - 2 * max(text_width(figure, end, _NUMBER_SIZE) for end in ends) - 0.1
    size = _NUMBER_SIZE * room / max(room, text_width(figure, shown.parameter, _NUMBER_SIZE))
    axes.text(0.5, _NUMBERS, shown.parameter, ha="center", fontsize=size, **common)
