"""Curves: the error of one arm against the number of downstream examples N.

Curves are computed only from records, and deterministically. ``docs/scores.md`` defines each score.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from pdebench_fm._util.bootstrap import resamples
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.record import Record

ZERO_SHOT, FINE_TUNE, SCRATCH = "zero-shot", "fine-tune", "scratch"
SCORED = (ZERO_SHOT, FINE_TUNE)
"""The arms by which a model is scored. They use the pre-training; `SCRATCH` does not."""

FEW_SEEDS = 5
"""Up to so many seeds, the bootstrap interval of their median is their whole range."""


@dataclass(frozen=True)
class CurvePoint:
    """One N of a curve.

    Args:
        examples: N.
        errors: one for each seed; infinite if training diverged.
        seeds: the seeds, in the same order.
        of_test_set: the record's own interval over test examples, if there is one record.
    """

    examples: int
    errors: tuple[float, ...]
    seeds: tuple[int, ...]
    of_test_set: tuple[float, float] | None = None

    def of_seeds(self, seeds: Collection[int]) -> CurvePoint:
        """Return the point with only the given seeds."""
        kept = sorted((seed, error) for error, seed in zip(self.errors, self.seeds, strict=True) if seed in seeds)
        of_test_set = self.of_test_set if len(kept) == len(self.seeds) else None
        return CurvePoint(
            self.examples, tuple(error for _, error in kept), tuple(seed for seed, _ in kept), of_test_set
        )

    @property
    def median(self) -> float:
        """Median over seeds; infinite if at least half of them diverged."""
        return statistics.median(self.errors)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over seeds, not interpolated."""
        low, high = np.quantile(self.errors, [0.25, 0.75], method="inverted_cdf")
        return float(low), float(high)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the median by bootstrap over seeds; with one seed, the record's own over test examples."""
        if len(self.errors) > 1:
            low, high = np.quantile(resampled_medians(self.errors), [0.025, 0.975], method="inverted_cdf")
            return float(low), float(high)
        return self.of_test_set


@dataclass(frozen=True)
class Curve:
    """Error of one arm of one model on one task, against N.

    Args:
        points: by N. Every record of a point has a score or diverged.
        lacking: every other N that was tried: one of its records failed or is unsupported.
        from_scratch: whether the arm starts from an initialised network, and so transfers nothing.
    """

    model: str
    task: str
    protocol: str
    points: tuple[CurvePoint, ...]
    lacking: tuple[int, ...] = ()
    from_scratch: bool = False

    def point(self, examples: int) -> CurvePoint | None:
        """Return the point at exactly this N."""
        return next((point for point in self.points if point.examples == examples), None)

    @property
    def trained(self) -> tuple[CurvePoint, ...]:
        """The points with N ≥ 1."""
        return tuple(point for point in self.points if point.examples > 0)

    def error_at(self, budget: float) -> float | None:
        """Return the median error at a budget of examples, log-log interpolated between two tried N.

        Returns None outside the tried range, next to an N without an outcome, and next to an error that is zero or
        infinite.
        """
        for point in self.points:
            if point.examples == budget:
                return point.median
        for low, high in pairwise(self.trained):
            within = low.examples < budget < high.examples
            known = not any(low.examples < size < high.examples for size in self.lacking)
            if within and known and has_logarithm(low.median) and has_logarithm(high.median):
                share = math.log(budget / low.examples) / math.log(high.examples / low.examples)
                return math.exp((1 - share) * math.log(low.median) + share * math.log(high.median))
        return None


def make_curves(records: Iterable[Record]) -> dict[tuple[str, str, str], Curve]:
    """Return the curve of every (model, task, protocol) of one suite, version and profile.

    Args:
        records: the later of two at the same `Record.place` counts; pre-trainings are ignored.
    """
    found: dict[tuple[str, str, str], dict[int, list[Record]]] = {}
    for record in {record.place: record for record in records if record.kind == "point"}.values():
        sizes = found.setdefault((record.model, record.task, record.protocol), {})
        sizes.setdefault(record.examples, []).append(record)
    return {key: _curve(key, sizes) for key, sizes in found.items()}


def _curve(key: tuple[str, str, str], sizes: Mapping[int, Sequence[Record]]) -> Curve:
    points, lacking = [], []
    for examples, records in sorted(sizes.items()):
        ordered = sorted(records, key=lambda record: record.seed)
        point = point_of(ordered)
        if point is None:
            lacking.append(examples)
        else:
            points.append(point)
    starts = (record.described.start.source for records in sizes.values() for record in records)
    return Curve(*key, tuple(points), tuple(lacking), all(start == "initialised" for start in starts))


def point_of(records: Sequence[Record]) -> CurvePoint | None:
    """Return the point of records that differ only in their seed.

    Returns None without records, and if one failed or is unsupported.
    """
    if not records or not all(SCORE in record.metrics or record.status == "diverged" for record in records):
        return None
    errors = tuple(record.metrics.get(SCORE, math.inf) for record in records)
    of_test_set = records[0].interval.get(SCORE) if len(records) == 1 else None
    return CurvePoint(records[0].examples, errors, tuple(record.seed for record in records), of_test_set)


def transfer_curves(curves: Mapping[str, Curve]) -> list[Curve]:
    """Return the arms that start from a pre-training, zero-shot as the N = 0 of fine-tuning.

    Args:
        curves: of one model on one task, by protocol.
    """
    arms = {protocol: curve for protocol, curve in curves.items() if not curve.from_scratch}
    zero, tuned = arms.get(ZERO_SHOT), arms.get(FINE_TUNE)
    if zero is not None and tuned is not None and tuned.points and tuned.point(0) is None:
        at_zero = tuple(point for point in zero.points if point.examples == 0)
        arms[FINE_TUNE] = replace(tuned, points=at_zero + tuned.points, lacking=zero.lacking + tuned.lacking)
        del arms[ZERO_SHOT]
    return [arms[protocol] for protocol in sorted(arms)]


def on_shared_seeds(tuned: Curve, scratch: Curve) -> tuple[Curve, Curve]:
    """Return both arms over the seeds that all of their points with N ≥ 1 share.

    An unfinished run has more seeds at one N than at another, and medians over different seeds do not compare.
    Zero-shot points keep their seeds.
    """
    trained = [point for curve in (tuned, scratch) for point in curve.trained]
    shared = set.intersection(*(set(point.seeds) for point in trained)) if trained else set()

    def restricted(curve: Curve) -> Curve:
        if not shared:
            return replace(curve, points=tuple(point for point in curve.points if point.examples == 0))
        points = (point if point.examples == 0 else point.of_seeds(shared) for point in curve.points)
        return replace(curve, points=tuple(points))

    return restricted(tuned), restricted(scratch)


def family(record: Record) -> str:
    """Return the model family in a record's job, or else the model's name."""
    return record.described.model.family or record.model


def has_logarithm(value: float) -> bool:
    """Whether a number is positive and finite."""
    return 0 < value < math.inf


def resampled_medians(errors: Sequence[float]) -> np.ndarray:
    """Return medians over resampled seeds, (RESAMPLES,). Equal numbers of seeds share their draws."""
    drawn = np.asarray(errors, dtype=np.float64)[resamples(len(errors), "seeds")]
    median: np.ndarray = np.median(drawn, axis=1)
    return median
