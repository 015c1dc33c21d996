"""What figures look like and how they are written: colours, markers, file names.

Colours are Okabe and Ito's palette, and dark-to-light viridis where they stand for an order; both can be told apart by
colour-blind readers, and every colour comes with a marker or a line style of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdebench_fm._util.files import replacing
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, ZERO_SHOT
from pdebench_fm.tables import Row, Table, arm_order, natural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {ZERO_SHOT: "#009E73", FINE_TUNE: "#0072B2", SCRATCH: "#D55E00"}
MORE_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
STYLES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)))
DASHES: tuple[Any, ...] = ((0, (4, 2)), (0, (1.5, 1.5)), (0, (8, 2)), (0, (4, 2, 1, 2)), (0, (6, 2, 1, 2, 1, 2)))
PALE, GREY, DARK = "#DDDDDD", "#8C8C8C", "#444444"
SMALLEST = 1e-16
"""An error of exactly zero has no place on a logarithmic axis; it is drawn here."""

_FORMATS: tuple[tuple[str, Mapping[str, Any]], ...] = (("png", {"Software": None}), ("pdf", {"CreationDate": None}))


class Looks:
    """Which colour, marker and line style stand for what, the same in all panels of a figure."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.arms = sorted({row.protocol for table in tables for row in table.rows}, key=arm_order)
        others = [arm for arm in self.arms if arm not in COLOURS]
        self.models = sorted({model for table in tables for model in table.models}, key=natural)
        self.colours = {**COLOURS, **{a: MORE_COLOURS[i % len(MORE_COLOURS)] for i, a in enumerate(others)}}

    def line(self, row: Row) -> dict[str, Any]:
        """Style of an arm's line over N: colour by arm, marker and line style by model."""
        return line_style(self.colours[row.protocol], self.models.index(row.model))

    def level(self, row: Row) -> dict[str, Any]:
        """Style of the horizontal line of an arm without downstream examples.

        Where there are more models than dashes, each line has its model's marker at its right end as well.
        """
        index = self.models.index(row.model)
        look = {"color": self.colours[row.protocol], "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.1}
        if len(self.models) > len(DASHES):
            marked = {key: value for key, value in self.line(row).items() if key.startswith("marker")}
            look |= {**marked, "markevery": [1], "clip_on": False}
        return look


def line_style(colour: Any, index: int) -> dict[str, Any]:
    """Style of the ``index``-th line of a panel."""
    return {
        "color": colour,
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": STYLES[index % len(STYLES)],
        "linewidth": 1.2,
        "markersize": 3.6,
        "markeredgewidth": 0.4,
        "markeredgecolor": "white",
    }


def distinct_colours(count: int) -> list[str]:
    """Return colours for things without an order, none of them that of training from scratch."""
    found = (COLOURS[FINE_TUNE], *MORE_COLOURS, COLOURS[ZERO_SHOT])
    return [found[index % len(found)] for index in range(count)]


def ordered_colours(count: int) -> list[tuple[float, float, float, float]]:
    """Return colours for things in order, from light to dark."""
    from matplotlib import colormaps

    viridis = colormaps["viridis"]
    return [viridis(0.85 * (1 - index / max(count - 1, 1))) for index in range(count)]


def file_stem(*parts: str) -> str:
    """Return a file name safe on every platform; two different names never share one.

    >>> file_stem("smoke", "v1", "lite")
    'smoke-v1-lite'
    """
    text = "-".join(parts)
    stem = re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")[:80]
    return stem if stem == text else f"{stem}-{digest(text)}".lstrip("-")


def digest(text: str) -> str:
    """Return eight characters that tell names apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def load_matplotlib() -> None:
    """Import all that drawing needs, which takes a second: for a moment in which there is nothing else to do."""
    from matplotlib import figure  # noqa: F401
    from matplotlib.backends import backend_agg, backend_pdf  # noqa: F401


@contextmanager
def drawing() -> Iterator[None]:
    """Draw with our settings, whatever matplotlib is set to elsewhere."""
    import matplotlib as mpl
    from matplotlib import style

    with style.context("default"), mpl.rc_context({"font.size": 8, "axes.linewidth": 0.6, "pdf.fonttype": 42}):
        yield


def save(figure: Figure, folder: Path, stem: str) -> list[Path]:
    """Write a figure as PNG (300 dpi) and PDF, each in one step, so that a kill leaves the old file or the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for format, metadata in _FORMATS:
        path = folder / f"{stem}.{format}"
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=300, format=format, metadata=dict(metadata))
        figure.set_layout_engine("none")  # the layout is settled; finding it again takes as long as writing
        written.append(path)
    return written
