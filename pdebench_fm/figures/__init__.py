"""Figures for print, as vector (PDF) and pixels (PNG).

One module draws one kind; `KINDS` lists those that records allow. Drawing is deterministic: the same records, and
distributions of their tasks, give the same bytes with the same version of matplotlib. Fields of test cases are no part
of a record; see `pdebench_fm.figures.cases`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pdebench_fm.figures import errors, mixtures, savings, seeds, sizes
from pdebench_fm.figures.errors import make_figure
from pdebench_fm.figures.style import COLOURS, digest, drawing, file_stem, load_matplotlib, save
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "KINDS", "Kind", "Realised", "draw", "draw_kinds", "file_stem", "load_matplotlib", "make_figure"]

Realised: TypeAlias = Callable[[Sequence[Record]], Shifts]
"""Records of one suite, version and profile → the distributions that their tasks are known to have."""


@dataclass(frozen=True)
class Kind:
    """One kind of figure.

    Args:
        shows: what it shows, for help and messages.
        needs: what records must hold for it.
        make: (detail of the name, models, figure) for each that the records of one suite, version and profile allow,
            with the distributions that are known of the tasks.
    """

    shows: str
    needs: str
    make: Callable[[Sequence[Record], Shifts], list[tuple[str, list[str], Figure]]]


KINDS = {
    "errors": Kind("error against N for each task", errors.NEEDS, errors.make),
    "sizes": Kind("error against N for each size of a family", sizes.NEEDS, sizes.make),
    "parameters": Kind("error against parameters of a family at fixed N", sizes.NEEDS, sizes.make_parameters),
    "mixtures": Kind("error against N for each pre-training", mixtures.NEEDS, mixtures.make),
    "savings": Kind("scratch examples that match N after pre-training", savings.NEEDS, savings.make),
    "seeds": Kind("every seed, median and quartiles", seeds.NEEDS, seeds.make),
}


def draw(
    records: Iterable[Record], folder: Path, kinds: Collection[str] | None = None, realised: Realised | None = None
) -> list[Path]:
    """Draw every figure that the records allow.

    Args:
        records: of any number of suites and models; of two at the same `Record.place` the later counts.
        folder: where the files go; made where it does not exist and there is something to draw.
        kinds: names in `KINDS`; all of them where None.
        realised: where the distributions above the panels come from; where None, or where it does not know a task, its
            nominal shift stands there.

    Returns:
        the files written, a PNG (300 dpi) and a PDF for each figure.
    """
    return [path for paths in draw_kinds(records, folder, kinds, realised).values() for path in paths]


def draw_kinds(
    records: Iterable[Record], folder: Path, kinds: Collection[str] | None = None, realised: Realised | None = None
) -> dict[str, list[Path]]:
    """Like `draw`, but return the files by kind; a kind that the records do not allow has none."""
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in {record.place: record for record in records}.values():
        groups.setdefault((record.suite, record.suite_version, record.profile), []).append(record)
    wanted = [name for name in KINDS if kinds is None or name in kinds]
    written: dict[str, list[Path]] = {name: [] for name in wanted}
    if not groups:
        return written
    with drawing():
        for (suite, version, profile), group in sorted(groups.items()):
            shifts = UNKNOWN if realised is None else realised(group)
            for name in wanted:
                taken = group if name == "mixtures" else [record for record in group if record.kind == "point"]
                for detail, models, figure in KINDS[name].make(taken, shifts):
                    whose = models[0] if len(models) == 1 else f"{len(models)}-models-{digest(' '.join(models))}"
                    parts = (suite, f"v{version}", profile, name, *([detail] if detail else []), whose)
                    written[name] += save(figure, folder, file_stem(*parts))
    return written
