"""What pre-training saves: amounts of data, savings, gains, and power laws, from curves."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pdebench_fm.records.curves import Curve, Point, has_logarithm, on_shared_seeds, resampled_medians

_EXACT, _MORE, _AT_MOST = 0, 1, -1


@dataclass(frozen=True)
class Amount:
    """A number of examples (or a ratio of two), known exactly or only as a bound.

    Args:
        value: the number, or the bound.
        bound: ``=`` the number itself; ``>`` more than the largest N tried; ``≤`` at most the value: the smallest N
            tried does it already, or the next smaller one diverged or has no outcome.
    """

    value: float
    bound: Literal["=", ">", "≤"] = "="

    @property
    def censored(self) -> bool:
        """Whether only a bound is known."""
        return self.bound != "="

    def divided_by(self, other: float) -> Amount:
        """Return the ratio; a bound stays a bound."""
        return Amount(self.value / other, self.bound)

    def __str__(self) -> str:
        # A tried N is written in full, since rounding it up would make a bound untrue.
        value = str(int(self.value)) if self.value.is_integer() else f"{float(f'{self.value:.3g}'):g}"
        return f"{self.bound} {value}" if self.censored else value


def needed(curve: Curve, target: float) -> Amount | None:
    """Return the N from which a curve reaches a target error.

    The first N at which the median error is at most the target, log-log interpolated from the N before it. What a curve
    does at larger N is not asked: whoever has more examples can still train on fewer.

    Returns:
        None where the curve has no point with N ≥ 1.
    """
    if not curve.trained:
        return None
    ladder = _ladder(curve)
    errors = np.array([[math.inf if point is None else point.median for point in ladder.values()]])
    values, bounds = _crossings(list(ladder), errors, np.array([target]))
    return _amount(values[0], bounds[0])


def _ladder(curve: Curve) -> dict[int, Point | None]:
    """Points by N ≥ 1, rising; None at an N without an outcome, where no interpolation may pass.

    Such an N counts as not reaching any error, so that the next larger one is a bound. One beyond the last point is
    left out: nothing is known there, and "more than N" is said of an N that was tried.
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
    """What N examples of a pre-trained arm are worth.

    Args:
        examples: N; 0 is zero-shot.
        error: the median error there.
        matched: scratch examples that reach the same error.
        interval: 95% interval of ``matched``, by bootstrap over seeds; None with one seed.
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

    Seeds are drawn again for both arms together, since the runs of one seed share their few-shot examples; see
    `on_shared_seeds`.

    Args:
        tuned: the arm that uses the pre-training.
        scratch: what it is compared with; no savings where it has no point with N ≥ 1.
        intervals: whether to compute them.
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
    """Return the 95% interval of resampled amounts; its ends are amounts themselves, so bounds stay bounds."""
    order = np.lexsort((values, bounds == _MORE))
    low, high = (order[math.ceil(share * len(values)) - 1] for share in (0.025, 0.975))
    return _amount(values[low], bounds[low]), _amount(values[high], bounds[high])


@dataclass(frozen=True)
class MeanFactor:
    """Geometric mean of factors some of which may be bounds.

    Args:
        value: the mean, a bound counted as if it were the number.
        more: how many were ``>``; these pull the mean below what it is.
        at_most: how many were ``≤``; these push it above.
        count: how many there were.
    """

    value: float
    more: int
    at_most: int
    count: int


def mean_factor(found: Iterable[Saving]) -> MeanFactor | None:
    """Return the geometric mean of the factors scratch examples / N over savings at N ≥ 1; None where there is none."""
    factors = [saving.factor for saving in found if saving.factor is not None]
    mean = geometric_mean([factor.value for factor in factors])
    if mean is None:
        return None
    bounds = [factor.bound for factor in factors]
    return MeanFactor(mean, bounds.count(">"), bounds.count("≤"), len(factors))


@dataclass(frozen=True)
class Gains:
    """Scratch error divided by the error of a pre-trained arm; above 1, the pre-training pays.

    Args:
        at: by N, those for which both errors are finite and not zero.
        mean: geometric mean over all N ≥ 1 that both arms tried; None where one of these has no gain.
        interval: 95% interval of the mean, by bootstrap over seeds; None with one seed, and where some draws of seeds
            diverged and have no gain.
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
        a: the error at x = 1.
        b: the exponent; positive where the error falls.
        b_error: standard error of ``b`` from the scatter about the line, with points − 2 degrees of freedom.
        r_squared: share of the variance of log error that the line explains; 0 where there is no variance.
        points: how many points were fitted.
    """

    a: float
    b: float
    b_error: float
    r_squared: float
    points: int


def fit_power_law(x: Sequence[float], errors: Sequence[float]) -> PowerLaw | None:
    """Fit a power law to points of a curve; None with fewer than three different x.

    Args:
        x: number of examples, or of parameters; points that are not above 0 are left out.
        errors: points whose error is zero or infinite are left out.
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
    log_a = float(v.mean()) - slope * float(u.mean())
    return PowerLaw(
        a=math.exp(log_a) if log_a < _LARGEST_LOG else math.inf,  # where the x lie close together
        b=-slope,
        b_error=math.sqrt(unexplained / (len(kept) - 2) / spread),
        r_squared=1.0 - unexplained / variance if variance > rounding else 0.0,
        points=len(kept),
    )


_LARGEST_LOG = math.log(sys.float_info.max)


def fit_curve(curve: Curve) -> PowerLaw | None:
    """Fit error = a · N^−b to the medians of a curve at N ≥ 1."""
    return fit_power_law([p.examples for p in curve.trained], [p.median for p in curve.trained])


def geometric_mean(values: Sequence[float]) -> float | None:
    """Return the geometric mean of positive numbers; None of none."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None
