"""Whether a model uses its coefficients at all: what its points say together, on one suite (docs/scores.md)."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pdebench_fm.records.curves import SCORED
from pdebench_fm.records.record import Cell, Record

IGNORED_BELOW = 0.05
"""A model whose error changes by less where coefficients are exchanged is flagged: it does not use them."""


@dataclass(frozen=True)
class CoefficientUse:
    """By how much the error of one model changes where test examples exchange their coefficients.

    Args:
        rises: (error then − error) / error of each scored point, by task, at least one; see `Record.coefficient_rise`.
        unmeasured: scored points that lack it.
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
        """Whether the model does about as well with coefficients that belong to other examples."""
        return change(self.all) < IGNORED_BELOW

    @property
    def ignored_on(self) -> tuple[str, ...]:
        """Tasks on which it does: a median over all of them hides one that the model solves by an average."""
        return tuple(task for task, rises in self.rises.items() if change(rises) < IGNORED_BELOW)


def change(rises: Iterable[float]) -> float:
    """Return the median of the changes, up or down."""
    return statistics.median(map(abs, rises))


def coefficient_use(points: Iterable[Record], planned: Collection[Cell]) -> CoefficientUse | None:
    """Return what the planned points of the scored arms of one model say together.

    Points beyond the plan do not count, so that none can be added to pass; nor do those without a score. Those that
    have one and lack the measurement are counted, so that none can be left out unseen.

    Args:
        points: records of one model on one suite, version and profile.
        planned: the cells of the suite.

    Returns:
        None where nothing was measured.
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
