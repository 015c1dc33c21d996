"""Whether a model uses its coefficients at all, over its points on one suite (docs/scores.md)."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pdebench_fm.records.curves import SCORED
from pdebench_fm.records.record import Cell, Record

IGNORED_BELOW = 0.05
"""A model is flagged if exchanging coefficients changes its error by less than this."""


@dataclass(frozen=True)
class CoefficientUse:
    """How much the error of one model changes when test examples exchange their coefficients.

    Args:
        rises: `Record.coefficient_rise` of each scored point, by task; at least one.
        unmeasured: number of scored points without one.
    """

    rises: Mapping[str, tuple[float, ...]]
    unmeasured: int = 0

    @property
    def all(self) -> list[float]:
        """The rises of every task."""
        return [rise for rises in self.rises.values() for rise in rises]

    @property
    def rise(self) -> float:
        """Median over the points."""
        return statistics.median(self.all)

    @property
    def ignored(self) -> bool:
        """Whether the model does about as well with the coefficients of other examples."""
        return change(self.all) < IGNORED_BELOW

    @property
    def ignored_on(self) -> tuple[str, ...]:
        """The tasks on which it does. A median over all tasks would hide one."""
        return tuple(task for task, rises in self.rises.items() if change(rises) < IGNORED_BELOW)


def change(rises: Iterable[float]) -> float:
    """Return the median of the changes, up or down."""
    return statistics.median(map(abs, rises))


def coefficient_use(points: Iterable[Record], planned: Collection[Cell]) -> CoefficientUse | None:
    """Summarise the planned points of the scored arms; None if none was measured.

    Points beyond the plan do not count, so that adding points cannot change the result. Scored points without the
    measurement are counted, so that leaving it out shows.

    Args:
        points: records of one model on one suite, version and profile.
    """
    rises: dict[str, list[float]] = {}
    unmeasured = 0
    for record in points:
        if record.kind != "point" or record.protocol not in SCORED or record.status != "ok":
            continue
        if record.cell not in planned:
            continue
        if record.coefficient_rise is None:
            unmeasured += 1
        else:
            rises.setdefault(record.task, []).append(record.coefficient_rise)
    return CoefficientUse({task: tuple(found) for task, found in rises.items()}, unmeasured) if rises else None
