"""Scores of a curve: the error of one arm against the number of downstream examples N, and what follows from it.

Everything here is computed from records alone and is deterministic. ``docs/scores.md`` defines each score and says why
it is defined so. What the tried sizes cannot say stays a bound (`Amount`) and never becomes a number.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np

from pdebench_fm._util.bootstrap import resamples
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.record import Record, start_of

ZERO_SHOT, FINE_TUNE, SCRATCH = "zero-shot", "fine-tune", "scratch"
SCORED = (ZERO_SHOT, FINE_TUNE)
"""The arms that use the pre-training; a model is scored by them, and `SCRATCH` is what it is compared with."""


@dataclass(frozen=True)
class Interval:
    """A 95% interval and what it is over: the ``seeds``, or the ``test examples`` where there is one seed."""

    low: float
    high: float
    over: Literal["seeds", "test examples"]


@dataclass(frozen=True)
class Point:
    """One N of a curve.

    Args:
        examples: N.
        errors: one a seed; infinite where training diverged.
        seeds: which seeds these are, in the same order.
        of_test_set: the record's own interval over test examples, where there is one record.
    """

    examples: int
    errors: tuple[float, ...]
    seeds: tuple[int, ...]
    of_test_set: tuple[float, float] | None = None

    def of_seeds(self, seeds: Collection[int]) -> Point:
        """Return the point that some of its seeds make, in their order."""
        kept = sorted((seed, error) for error, seed in zip(self.errors, self.seeds, strict=True) if seed in seeds)
        of_test_set = self.of_test_set if len(kept) == len(self.seeds) else None
        return Point(self.examples, tuple(error for _, error in kept), tuple(seed for seed, _ in kept), of_test_set)

    @property
    def median(self) -> float:
        """Median over seeds; infinite where half of them or more diverged."""
        return statistics.median(self.errors)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over seeds, each one of the errors (no interpolation)."""
        low, high = np.quantile(self.errors, [0.25, 0.75], method="inverted_cdf")
        return float(low), float(high)

    @property
    def interval(self) -> Interval | None:
        """95% interval of the median, by bootstrap over seeds; of one seed, its record's own over test examples."""
        if len(self.errors) > 1:
            low, high = np.quantile(resampled_medians(self.errors), [0.025, 0.975], method="inverted_cdf")
            return Interval(float(low), float(high), "seeds")
        return None if self.of_test_set is None else Interval(*self.of_test_set, "test examples")


@dataclass(frozen=True)
class Curve:
    """Error of one arm of one model on one task, against N.

    Args:
        model: name of the model.
        task: name of the task.
        protocol: the arm.
        points: by N; only those each of whose records has an outcome, a score or a divergence.
        lacking: every other N that was tried: one of its records failed or is unsupported.
        from_scratch: whether the arm starts from an initialised network and so transfers nothing, whatever its name.
    """

    model: str
    task: str
    protocol: str
    points: tuple[Point, ...]
    lacking: tuple[int, ...] = ()
    from_scratch: bool = False

    def point(self, examples: int) -> Point | None:
        """Return the point at exactly this N."""
        return next((point for point in self.points if point.examples == examples), None)

    @property
    def trained(self) -> tuple[Point, ...]:
        """The points with N ≥ 1: those that have a place on a logarithmic axis."""
        return tuple(point for point in self.points if point.examples > 0)

    def error_at(self, budget: float) -> float | None:
        """Return the median error at a budget of examples, log-log interpolated between two tried N.

        None outside the tried range, beside an N that lacks an outcome, and between points whose errors have no
        logarithm.
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
        records: of two at the same `Record.place` the later counts; pre-trainings are left out.
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
    starts = (start_of(record).get("from") for records in sizes.values() for record in records)
    return Curve(*key, tuple(points), tuple(lacking), all(start == "initialised" for start in starts))


def point_of(records: Sequence[Record]) -> Point | None:
    """Return the point that records of one place make, one a seed and in their order.

    None where there are none, or where one has no outcome: it failed, or is unsupported.
    """
    if not records or not all(SCORE in record.metrics or record.status == "diverged" for record in records):
        return None
    errors = tuple(record.metrics.get(SCORE, math.inf) for record in records)
    of_test_set = records[0].interval.get(SCORE) if len(records) == 1 else None
    return Point(records[0].examples, errors, tuple(record.seed for record in records), of_test_set)


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
    """Return both arms over the seeds that every one of their points with N ≥ 1 has.

    A run that is not finished has seeds at one N that it lacks at another, and what their medians differ by would be
    luck as much as data. Zero-shot points have a seed for each pre-training and stay as they are.
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
    """Return the model family that a record's job names; the model's own name where it names none."""
    described = record.job.get("model")
    named = described.get("family") if isinstance(described, dict) else None
    return named if isinstance(named, str) and named else record.model


def has_logarithm(value: float) -> bool:
    """Whether a number is positive and finite."""
    return 0 < value < math.inf


def resampled_medians(errors: Sequence[float]) -> np.ndarray:
    """Return medians of the errors with seeds drawn again, (RESAMPLES,); equal counts of seeds share their draws."""
    drawn = np.asarray(errors, dtype=np.float64)[resamples(len(errors), "seeds")]
    median: np.ndarray = np.median(drawn, axis=1)
    return median
