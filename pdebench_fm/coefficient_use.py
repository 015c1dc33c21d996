"""Whether a model uses its coefficients at all: what its points say together, on one suite (docs/scores.md)."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pdebench_fm.curves import SCORED
from pdebench_fm.records import Cell, Record

IGNORED_BELOW = 0.05
"""A model whose error changes by less where coefficients are exchanged is flagged: it does not use them."""


@dataclass(frozen=True)
class CoefficientUse:
    """By how much the error of one model changes where test examples exchange their coefficients.

    Args:
        rises: (error then − error) / error of each scored point, at least one; see `Record.coefficient_rise`.
    """

    rises: tuple[float, ...]

    @property
    def rise(self) -> float:
        """Median over the points."""
        return statistics.median(self.rises)

    @property
    def change(self) -> float:
        """Median over the points of the change, up or down."""
        return statistics.median(map(abs, self.rises))

    @property
    def ignored(self) -> bool:
        """Whether the model does about as well with coefficients that belong to other examples."""
        return self.change < IGNORED_BELOW


def coefficient_use(points: Iterable[Record], planned: Collection[Cell]) -> CoefficientUse | None:
    """Return what the planned points of the scored arms of one model say together.

    Points beyond the plan do not count, so that none can be added to pass; nor do those without a score.

    Args:
        points: records of one model on one suite, version and profile.
        planned: the cells of the suite.

    Returns:
        None where no point has a score, or where one that has lacks the measurement.
    """
    scored = (r for r in points if r.kind == "point" and r.protocol in SCORED and r.cell in planned)
    found = [record.coefficient_rise for record in scored if record.status == "ok"]
    rises = tuple(rise for rise in found if rise is not None)
    return CoefficientUse(rises) if rises and len(rises) == len(found) else None
