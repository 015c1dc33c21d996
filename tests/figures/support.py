"""What tests of figures share."""

from __future__ import annotations

from typing import Any

from matplotlib.collections import LineCollection, PolyCollection

from pdebench_fm.records.record import Record
from tests.support.records import make_record


def curve(protocol: str, errors: dict[int, float], model: str = "conv-small", **changes: Any) -> list[Record]:
    """Records of an arm from N → error."""
    return [make_record(model, protocol=protocol, examples=n, error=e, **changes) for n, e in errors.items()]


def panels(figure: Any) -> list[Any]:
    """The panels of a figure that are shown."""
    return [axes for axes in figure.axes if axes.axison]


def legend(figure: Any) -> list[str]:
    """Texts of the legend."""
    return [text.get_text() for text in figure.legends[0].get_texts() if text.get_text()]


def bands(axes: Any) -> list[list[list[tuple[float, float]]]]:
    """Outlines of each band of quartiles, one for each run of places."""
    filled = [collection for collection in axes.collections if isinstance(collection, PolyCollection)]
    return [[[(float(x), float(y)) for x, y in path.vertices] for path in one.get_paths()] for one in filled]


def bars(axes: Any) -> list[tuple[float, float, float]]:
    """(place, low, high) of each vertical bar."""
    found = [c for c in axes.collections if isinstance(c, LineCollection)]
    ends = [segment.tolist() for collection in found for segment in collection.get_segments() if len(segment)]
    return [(low[0], low[1], high[1]) for low, high in ends]


def data(axes: Any, colour: Any = None) -> list[list[tuple[float, float]]]:
    """Points of each line of data, those in a colour only where it is given."""
    found = []
    for line in axes.get_lines():
        same = colour is None or line.get_color() == colour
        if same and line.get_transform() == axes.transData:
            found.append([(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)])
    return found
