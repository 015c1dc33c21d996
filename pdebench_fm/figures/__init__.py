"""Figures for print, as PDF and PNG: one module for each kind.

Drawing is deterministic: the same records and distributions give the same bytes with the same version of matplotlib.
`pdebench_fm.figures.cases` draws fields of test cases, which are not in a record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pdebench_fm._util.grouping import grouped
from pdebench_fm.errors import RunError, UnknownNameError
from pdebench_fm.figures import errors, mixtures, savings, seeds, sizes
from pdebench_fm.figures.panels import ERROR_LABEL, Made
from pdebench_fm.figures.style import COLOURS, drawing, file_stem, save
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "KINDS", "Kind", "Realised", "draw", "file_stem", "make_figures"]

Realised: TypeAlias = Callable[[Sequence[Record]], Shifts]
"""Records of one suite, version and profile → the known distributions of their tasks."""


@dataclass(frozen=True)
class Kind:
    """One kind of figure.

    Args:
        needs: what the records must hold.
        make: records of one suite, version and profile, and known distributions → figures.
    """

    needs: str
    make: Callable[[Sequence[Record], Shifts], Made]


KINDS = {
    "errors": Kind(errors.NEEDS, errors.make),
    "sizes": Kind(sizes.NEEDS, sizes.make),
    "parameters": Kind(sizes.NEEDS, sizes.make_parameters),
    "mixtures": Kind(mixtures.NEEDS, mixtures.make),
    "savings": Kind(savings.NEEDS, savings.make),
    "seeds": Kind(seeds.NEEDS, seeds.make),
}


def draw(
    records: Iterable[Record],
    folder: Path,
    kinds: Collection[str] | None = None,
    realised: Realised | None = None,
    metric: str = SCORE,
) -> dict[str, list[Path]]:
    """Draw every figure that the records allow.

    Args:
        records: of any suites and models. The later of two at the same `Record.place` counts.
        folder: of the files; made if there is something to draw.
        kinds: names in `KINDS`; by default all of them.
        realised: gives the distributions above the panels. Unknown ones are replaced by the nominal shift.
        metric: what the records show; see `pdebench_fm.records.metrics`.

    Returns:
        the files written by kind, a PNG (300 dpi) and a PDF for each figure. A kind that the records do not allow has
        none.
    """
    groups = _groups(records)
    wanted = [name for name in KINDS if kinds is None or name in kinds]
    written: dict[str, list[Path]] = {name: [] for name in wanted}
    if not groups:
        return written
    with drawing():
        for suite, version, profile, group in groups:
            shifts = UNKNOWN if realised is None else realised(group)
            for name in wanted:
                for detail, models, figure in KINDS[name].make(_taken(group, name), shifts):
                    shown = [] if metric == SCORE else [metric]
                    parts = (suite, f"v{version}", profile, name, *shown, *([detail] if detail else []), *models)
                    _name_metric(figure, metric)
                    written[name] += save(figure, folder, file_stem(*parts), " · ".join(parts))
    return written


def _name_metric(figure: Figure, metric: str) -> None:
    """Name a metric of a plugin where the main score is named."""
    from matplotlib.text import Text

    if metric != SCORE:
        for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_text() == ERROR_LABEL):
            text.set_text(metric)  # type: ignore[attr-defined]


def _groups(records: Iterable[Record]) -> list[tuple[str, int, str, list[Record]]]:
    """Return suite, version, profile and records of each; the later of two at one place counts."""
    different = {record.place: record for record in records}.values()
    groups = grouped(different, lambda record: (record.suite, record.suite_version, record.profile))
    return [(*key, group) for key, group in sorted(groups.items())]


def _taken(records: Sequence[Record], kind: str) -> list[Record]:
    """Return what a kind is drawn from: points, for mixtures the pre-trainings too."""
    return [record for record in records if record.kind == "point" or kind == "mixtures"]


def make_figures(records: Iterable[Record], kind: str) -> list[Figure]:
    """Return the figures of one kind, without writing them; a notebook shows them as PNG."""
    if kind not in KINDS:
        raise UnknownNameError("kind of figure", kind, KINDS)
    found: list[Figure] = []
    with drawing():
        for _, _, _, group in _groups(records):
            found += [figure for _, _, figure in KINDS[kind].make(_taken(group, kind), UNKNOWN)]
    if not found:
        raise RunError(f"nothing to draw: {kind} needs {KINDS[kind].needs}")
    for figure in found:
        setattr(figure, "_repr_png_", partial(_png, figure))  # noqa: B010  Figure has none without pyplot
    return found


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    with drawing():
        figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
