"""Data savings, transfer gains and power laws, from curves.

What the tried sizes cannot say is a bound (`Amount`), never an extrapolation.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pdebench_fm.records.curves import Curve, CurvePoint, has_logarithm, on_shared_seeds, resampled_medians

_EXACT, _MORE, _AT_MOST = 0, 1, -1


@dataclass(frozen=True)
class Amount:
    """A number of examples (or a ratio of two), known exactly or only as a bound.

    Args:
        value: the number, or the bound.
        bound: ``=`` for a number; ``>`` if the largest N tried is not enough; ``≤`` if the smallest N tried is enough,
            or the next smaller N diverged or has no outcome.
    """

    value: float
    bound: Literal["=", ">", "≤"] = "="

    @property
    def censored(self) -> bool:
        """Whether only a bound is known."""
        return self.bound != "="

    def divided_by(self, other: float) -> Amount:
        """Return the ratio. A bound stays a bound."""
        return Amount(self.value / other, self.bound)

    def __str__(self) -> str:
        # An N that was tried is not rounded: rounding up would make a bound false.
        value = str(int(self.value)) if self.value.is_integer() else f"{float(f'{self.value:.3g}'):g}"
        return f"{self.bound} {value}" if self.censored else value


def needed(curve: Curve, target: float) -> Amount | None:
    """Return the first N at which a curve reaches a target error, log-log interpolated.

    Larger N are ignored, because you can always train on fewer examples. Returns None without a point with N ≥ 1.
    """
    if not curve.trained:
        return None
    ladder = _ladder(curve)
    errors = np.array([[math.inf if point is None else point.median for point in ladder.values()]])
    values, bounds = _crossings(list(ladder), errors, np.array([target]))
    return _amount(values[0], bounds[0])


def _ladder(curve: Curve) -> dict[int, CurvePoint | None]:
    """Return points by N ≥ 1, in rising order; None at an N without an outcome.

    Such an N counts as reaching no error, so that the next larger one is a bound. An N without an outcome beyond the
    last point is left out.
    """
    points = {point.examples: point for point in curve.trained}
    sizes = sorted({*points, *(size for size in curve.lacking if 0 < size < max(points, default=0))})
    return {size: points.get(size) for size in sizes}


def _crossings(sizes: Sequence[int], errors: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply `needed` to many curves at once.

    Args:
        sizes: N ≥ 1, rising, (points,).
        errors: (curves, points).
        targets: (curves,).

    Returns:
        values and bounds of the amounts, (curves,) each.
    """
    rows, tried = np.arange(len(errors)), np.array(sizes, dtype=np.float64)
    reached = (errors <= targets[:, None]) & np.isfinite(errors)
    ever, first = reached.any(axis=1), reached.argmax(axis=1)
    low, high = errors[rows, first], errors[rows, np.maximum(first - 1, 0)]
    values = np.where(ever, tried[first], tried[-1])
    bounds = np.where(ever, np.where((low == targets) & (first > 0) & np.isfinite(high), _EXACT, _AT_MOST), _MORE)
    at = np.flatnonzero(ever & (first > 0) & np.isfinite(high) & (low > 0) & (low < targets))
    share = np.log(high[at] / targets[at]) / np.log(high[at] / low[at])
    values[at] = tried[first[at] - 1] * (tried[first[at]] / tried[first[at] - 1]) ** share
    bounds[at] = _EXACT
    return values, bounds


def _amount(value: float, bound: int) -> Amount:
    names: dict[int, Literal["=", ">", "≤"]] = {_EXACT: "=", _MORE: ">", _AT_MOST: "≤"}
    return Amount(float(value), names[int(bound)])


@dataclass(frozen=True)
class Saving:
    """The scratch examples that match N examples of a pre-trained arm.

    Args:
        examples: N; 0 is zero-shot.
        error: the median error there.
        matched: scratch examples that reach the same error.
        interval: 95% interval of ``matched`` by bootstrap over seeds; None with one seed.
    """

    examples: int
    error: float
    matched: Amount
    interval: tuple[Amount, Amount] | None

    @property
    def factor(self) -> Amount | None:
        """``matched`` divided by N; None for zero-shot."""
        return self.matched.divided_by(self.examples) if self.examples > 0 else None


def savings(tuned: Curve, scratch: Curve, intervals: bool = True) -> tuple[Saving, ...]:
    """Return the data savings at every N of ``tuned`` that has a finite error.

    Seeds are resampled for both arms together, because runs of one seed share their few-shot examples.

    Args:
        scratch: the reference; without a point at N ≥ 1 there are no savings.
    """
    tuned, scratch = on_shared_seeds(tuned, scratch)
    if not scratch.trained:
        return ()
    ladder = _ladder(scratch)
    sizes, against = list(ladder), [(math.inf,) if point is None else point.errors for point in ladder.values()]
    middle = np.array([[statistics.median(errors) for errors in against]])
    several = intervals and any(len(point.errors) > 1 for point in (*tuned.points, *scratch.trained))
    redrawn = np.stack([resampled_medians(errors) for errors in against], axis=1) if several else None
    found = []
    for point in tuned.points:
        if not math.isfinite(point.median):
            continue
        values, bounds = _crossings(sizes, middle, np.array([point.median]))
        interval = None
        if redrawn is not None:
            ends = _crossings(sizes, redrawn, resampled_medians(point.errors))
            interval = _interval_of_amounts(*ends)
        found.append(Saving(point.examples, point.median, _amount(values[0], bounds[0]), interval))
    return tuple(found)


def _interval_of_amounts(values: np.ndarray, bounds: np.ndarray) -> tuple[Amount, Amount]:
    """Return the 95% interval of resampled amounts. Its ends may be bounds."""
    order = np.lexsort((values, bounds == _MORE))
    low, high = (order[math.ceil(share * len(values)) - 1] for share in (0.025, 0.975))
    return _amount(values[low], bounds[low]), _amount(values[high], bounds[high])


@dataclass(frozen=True)
class MeanFactor:
    """Geometric mean of factors, some of which may be bounds.

    Args:
        value: the mean; a bound counts as its number.
        more: how many factors are ``>``, so that the true mean is larger.
        at_most: how many are ``≤``, so that it is smaller.
        count: number of factors.
    """

    value: float
    more: int
    at_most: int
    count: int


def mean_factor(found: Iterable[Saving]) -> MeanFactor | None:
    """Return the geometric mean of the factors at N ≥ 1; None if there are none."""
    factors = [saving.factor for saving in found if saving.factor is not None]
    mean = geometric_mean([factor.value for factor in factors])
    if mean is None:
        return None
    bounds = [factor.bound for factor in factors]
    return MeanFactor(mean, bounds.count(">"), bounds.count("≤"), len(factors))


@dataclass(frozen=True)
class Gains:
    """Scratch error divided by the error of a pre-trained arm. Above 1, the pre-training pays.

    Args:
        at: gain by N, if both errors are finite and not zero.
        mean: geometric mean over all N ≥ 1 that both arms tried; None if one of them has no gain.
        interval: 95% interval of the mean by bootstrap over seeds; None with one seed, or if a resample diverged.
    """

    at: Mapping[int, float]
    mean: float | None
    interval: tuple[float, float] | None


def transfer_gains(tuned: Curve, scratch: Curve) -> Gains:
    """Return the transfer gain at every N of both arms, over the seeds they share (`on_shared_seeds`)."""
    tuned, scratch = on_shared_seeds(tuned, scratch)
    both = [(ours, theirs) for ours in tuned.points if (theirs := scratch.point(ours.examples)) is not None]
    at = {
        ours.examples: theirs.median / ours.median
        for ours, theirs in both
        if has_logarithm(ours.median) and has_logarithm(theirs.median)
    }
    tried = ({p.examples for p in tuned.points} | {*tuned.lacking}) & (
        {p.examples for p in scratch.points} | {*scratch.lacking}
    )
    wanted = {size for size in tried if size > 0}
    if not wanted or not wanted <= set(at):
        return Gains(at, None, None)
    mean, interval = geometric_mean([at[size] for size in sorted(wanted)]), None
    used = [(ours, theirs) for ours, theirs in both if ours.examples > 0]
    if any(len(point.errors) > 1 for pair in used for point in pair):
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample that diverged, or has an error of zero
            ratios = [
                np.log(resampled_medians(theirs.errors)) - np.log(resampled_medians(ours.errors))
                for ours, theirs in used
            ]
            drawn = np.mean(ratios, axis=0)
        if np.isfinite(drawn).all():
            low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
            interval = math.exp(low), math.exp(high)
    return Gains(at, mean, interval)


@dataclass(frozen=True)
class PowerLaw:
    """error = a · x^−b, fitted by least squares in logarithms.

    Args:
        b: the exponent; positive if the error falls.
        b_error: standard error of ``b``, with points − 2 degrees of freedom.
        r_squared: share of the variance of log error that the fit explains; 0 without variance.
    """

    b: float
    b_error: float
    r_squared: float


def fit_power_law(x: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """Fit a power law by least squares in logarithms.

    Points with x ≤ 0 or an error of zero or infinity are left out. Returns None with fewer than three different x.
    """
    kept = [(a, b) for a, b in zip(x, errors, strict=True) if a > 0 and has_logarithm(b)]
    if len({a for a, _ in kept}) < 3:
        return None
    u, v = np.log(np.array(kept, dtype=np.float64)).T
    centred = u - u.mean()
    spread = float(centred @ centred)
    slope = float(centred @ v) / spread
    left = v - v.mean() - slope * centred
    variance, unexplained = float(np.sum((v - v.mean()) ** 2)), float(left @ left)
    rounding = len(kept) * (4e-16 * float(np.abs(v).max())) ** 2
    return PowerLaw(
        b=-slope,
        b_error=math.sqrt(unexplained / (len(kept) - 2) / spread),
        r_squared=1.0 - unexplained / variance if variance > rounding else 0.0,
    )


def fit_curve(curve: Curve) -> PowerLaw | None:
    """Fit error = a · N^−b to the medians of a curve at N ≥ 1."""
    return fit_power_law([p.examples for p in curve.trained], [p.median for p in curve.trained])


def geometric_mean(values: Sequence[float]) -> float | None:
    """Return the geometric mean of positive numbers; None if there are none."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None
