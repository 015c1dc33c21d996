"""How figures look and how they are saved: colours, markers, file names.

Colours are Okabe and Ito's palette, or viridis for things in order. Colour-blind readers can tell both apart, and every
colour comes with a marker or line style of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdebench_fm._util.files import replacing
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, ZERO_SHOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {ZERO_SHOT: "#009E73", FINE_TUNE: "#0072B2", SCRATCH: "#D55E00"}
_MORE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)))
GREY, DARK = "#8C8C8C", "#444444"


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """Return a colour for each arm."""
    others = [arm for arm in arms if arm not in COLOURS]
    return COLOURS | {arm: _MORE_COLOURS[index % len(_MORE_COLOURS)] for index, arm in enumerate(others)}


def line_style(colour: Any, index: int) -> dict[str, Any]:
    """Return the style of the ``index``-th line of a panel."""
    return {
        "color": colour,
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _STYLES[index % len(_STYLES)],
        "linewidth": 1.2,
        "markersize": 3.6,
        "markeredgewidth": 0.4,
        "markeredgecolor": "white",
    }


def distinct_colours(count: int) -> list[str]:
    """Return colours for things without an order. None is the colour of scratch."""
    found = (COLOURS[FINE_TUNE], *_MORE_COLOURS, COLOURS[ZERO_SHOT])
    return [found[index % len(found)] for index in range(count)]


def ordered_colours(count: int) -> list[tuple[float, float, float, float]]:
    """Return colours for things in order, from light to dark."""
    from matplotlib import colormaps

    viridis = colormaps["viridis"]
    return [viridis(0.85 * (1 - index / max(count - 1, 1))) for index in range(count)]


def file_stem(*parts: str) -> str:
    """Return a file name that is safe on every platform, with ``+`` for spaces.

    Other odd characters become ``-``. A name with such characters, or a long one, ends in a hash.

    >>> file_stem("smoke", "v1", "SYS-1(5,10) from mixed")
    'smoke-v1-SYS-1(5,10)+from+mixed'
    """
    text = "-".join(parts)
    safe = re.sub(r"[^A-Za-z0-9._(),= -]+", "-", text).strip("-. ")[:140]
    stem = safe.replace(" ", "+")
    return stem if safe == text else f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our settings, ignoring the user's. Texts are never parsed as mathematics."""
    import matplotlib as mpl
    from matplotlib import style

    ours = {"font.size": 8, "axes.linewidth": 0.6, "pdf.fonttype": 42, "text.parse_math": False}
    with style.context("default"), mpl.rc_context(ours):  # type: ignore[arg-type, unused-ignore]
        yield


def save(figure: Figure, folder: Path, stem: str, title: str) -> list[Path]:
    """Write a figure atomically as PNG (300 dpi) and PDF, without dates or versions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    folder.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(300)
    # The layout is found once, and not once for each file as by savefig, which draws twice for that.
    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
    figure.set_layout_engine("none")
    png, pdf = (folder / f"{stem}.{format}" for format in ("png", "pdf"))
    with replacing(png) as temporary:
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(temporary, metadata={"Title": title, "Software": None})
    with replacing(pdf) as temporary:
        canvas = FigureCanvasPdf(figure)
        canvas.print_pdf(temporary, metadata={"Title": title, "CreationDate": None})
    return [png, pdf]
