"""What a pre-trained model is compared with, beside its own scratch arm.

A gain over one's own scratch arm is large if that arm was trained badly. So the board also compares with the best
training from scratch of any ranked model in the same cell, and with the best model that takes no gradient steps. Both
are chosen by validation error, as a user would choose, and not by test error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pdebench_fm._util.grouping import grouped
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, has_logarithm, point_of
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.records.savings import geometric_mean


@dataclass(frozen=True)
class Comparison:
    """Fine-tuning of one model against what others reach without its pre-training.

    Args:
        best_scratch: geometric mean over tasks and N ≥ 1 of the error of the best training from scratch, of any ranked
            model, divided by the error after fine-tuning.
        baseline: the same for models without gradient steps; None if there are none.
        hurt: tasks and N at which fine-tuning is worse than the model's own scratch arm, with the intervals apart.
        compared: number of tasks and N with both arms.
    """

    best_scratch: float | None
    baseline: float | None
    hurt: tuple[tuple[str, int], ...]
    compared: int


class References:
    """The scratch arms of a suite's ranked models.

    Args:
        points: of one suite, version and profile.
    """

    def __init__(self, points: Iterable[Record], ranked: Collection[str]) -> None:
        scratch = [r for r in points if r.protocol == SCRATCH and r.examples > 0 and r.model in ranked]
        direct = {model for model in ranked if not any(r.steps for r in scratch if r.model == model)}
        self._scratch = _best_by_place(scratch)
        self._baseline = _best_by_place(r for r in scratch if r.model in direct)

    def best_scratch(self, task: str, examples: int) -> Sequence[Record]:
        """Return the best training from scratch of any ranked model, a record for each seed; empty if there is none."""
        return self._scratch.get((task, examples), ())

    def compare(self, points: Sequence[Record]) -> Comparison:
        """Compare one model with the references.

        Args:
            points: of the model, at planned cells.
        """
        arms = {arm: _by_place(r for r in points if r.protocol == arm and r.examples > 0) for arm in _ARMS}
        tuned, scratch = arms[FINE_TUNE], arms[SCRATCH]
        both = [place for place in tuned if place in scratch]
        return Comparison(
            best_scratch=_mean_gain(tuned, self._scratch),
            baseline=_mean_gain(tuned, self._baseline),
            hurt=tuple(place for place in both if _is_apart(scratch[place], tuned[place])),
            compared=len(both),
        )


_ARMS = (FINE_TUNE, SCRATCH)
_Places = Mapping[tuple[str, int], Sequence[Record]]


def _by_place(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """Return records by task and N, in order of their seeds."""
    return grouped(sorted(records, key=lambda record: record.seed), lambda record: (record.task, record.examples))


def _best_by_place(records: Iterable[Record]) -> dict[tuple[str, int], list[Record]]:
    """Return, for each task, N and seed, the record whose trial had the lowest validation error."""
    best: dict[Cell, tuple[float, Record]] = {}
    for record in records:
        errors = [trial.validation for trial in record.trials if trial.validation is not None]
        if record.status == "ok" and errors:
            found = (min(errors), record)
            best[record.cell] = min(best.get(record.cell, found), found, key=lambda one: (one[0], one[1].model))
    return _by_place(record for _, record in best.values())


def _mean_gain(tuned: _Places, reference: _Places) -> float | None:
    gains = [gain(reference[place], records) for place, records in tuned.items() if place in reference]
    return geometric_mean([found for found in gains if found is not None])


def gain(theirs: Sequence[Record], ours: Sequence[Record]) -> float | None:
    """Return the ratio of the median errors of two cells; None if one has none, or one that is zero or infinite."""
    above, below = point_of(theirs), point_of(ours)
    if above is None or below is None or not has_logarithm(above.median) or not has_logarithm(below.median):
        return None
    return above.median / below.median


def _is_apart(low: Sequence[Record], high: Sequence[Record]) -> bool:
    """Whether the interval of one cell lies below that of another."""
    below, above = point_of(low), point_of(high)
    if below is None or above is None or below.interval is None or above.interval is None:
        return False
    return below.interval[1] < above.interval[0]
