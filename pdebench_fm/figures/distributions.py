"""The distributions of the physics parameter above a panel (the paper's Figs. 3, 5 and A.2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from pdebench_fm.figures.style import DARK, GREY
from pdebench_fm.scoring.shift import Distributions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2DBase

HEIGHT = 0.4
"""Height of the distributions above a panel, in inches."""

_FILL = "#C8C8C8"
_SWATCH = {"marker": "s", "linestyle": "none", "markersize": 6}


def draw_distributions(axes: Axes, shown: Distributions) -> None:
    """Draw pre-training (filled) and downstream (outlined) above a panel, over the same bins."""
    from matplotlib.transforms import ScaledTranslation, blended_transform_factory

    # As wide as the panel; up in inches from its top, since the layout changes the panel's height.
    up = cast("Figure", axes.figure).dpi_scale_trans + ScaledTranslation(0, 1, cast("Affine2DBase", axes.transAxes))
    above = axes.inset_axes((0, 0.13, 1, 0.2), transform=blended_transform_factory(axes.transAxes, up))
    above.stairs(shown.pretraining, shown.edges, fill=True, color=_FILL)
    above.stairs(shown.downstream, shown.edges, color=DARK, linewidth=0.8)
    above.set_xlim(shown.edges[0], shown.edges[-1])
    above.set_ylim(0, None)
    above.set_yticks([])
    above.set_xticks([shown.edges[0], shown.edges[-1]], labels=[f"{end:.3g}" for end in shown.ends])
    first, last = above.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    above.tick_params(length=0, labelsize=5.5, labelcolor=DARK, pad=1)
    above.set_xlabel(shown.parameter, fontsize=5.5, color=DARK, labelpad=-6)
    above.spines[["left", "right", "top"]].set_visible(False)
    above.spines["bottom"].set(color=GREY, linewidth=0.5)


def distribution_entries(drawn: Iterable[bool]) -> list[tuple[dict[str, Any], str]]:
    """Return the legend entries of the distributions, if any panel has them."""
    if not any(drawn):
        return []
    outlined = {**_SWATCH, "markerfacecolor": "none", "markeredgecolor": DARK, "markeredgewidth": 0.8}
    return [
        ({**_SWATCH, "color": _FILL}, "histograms above: pre-training examples"),
        (outlined, "histograms above: downstream examples"),
    ]
