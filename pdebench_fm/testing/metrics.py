"""Checks of a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces import Metric, PDESystem
from pdebench_fm.interfaces.metric import DIRECTIONS
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry import registry
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.testing.claims import Check, claims, expect, parametrised
from pdebench_fm.testing.examples import plain_examples

WITH_A_PDE = "smoke:SYS-1(1,5)"
"""The distribution that metrics are checked on which need the PDE."""
_COUNT = 4
_ROUNDING = 1e-6
"""What the truth may score where it is compared with the PDE: a solver stops at rounding, not at zero."""


def metric_checks(
    name: str, *, distribution: str | None = None, expected_failures: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered metric.

    Args:
        name: of the metric.
        distribution: ``SUITE:NAME``, whose examples the metric takes; see `MetricSubject`.
        expected_failures: claim → reason.
    """
    return parametrised(lambda: _subject(name, distribution), METRIC_CHECKS, expected_failures)


def checks_of_metric(name: str, distribution: str | None = None) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered metric.

    Args:
        name: of the metric.
        distribution: ``SUITE:NAME``, whose examples the metric takes; see `MetricSubject`.

    Raises:
        UnknownNameError: it is not registered.
        PluginError: it cannot be made.
    """
    return claims(METRIC_CHECKS, _subject(name, distribution))


def _subject(name: str, distribution: str | None) -> MetricSubject:
    made: Metric = call_plugin(f"metric {name!r} cannot be made", registry().load("metrics", name))
    subject = MetricSubject(made, distribution)
    if distribution is not None:
        subject.examples()  # what is wrong with them is not the metric's fault
    return subject


class _Solved(NamedTuple):
    """Four examples with their true outputs, and their PDE if the metric needs one."""

    problem: Problem
    inputs: Fields
    target: Fields
    system: PDESystem | None

    def scores(self, metric: Metric, prediction: Fields) -> np.ndarray:
        """Score each example, float64 (4,)."""
        values = metric.per_sample(self.problem, self.inputs, prediction, self.target, self.system)
        scores: np.ndarray = values.detach().double().cpu().numpy()
        return scores


@dataclass(frozen=True)
class MetricSubject:
    """A metric, and what it is checked on.

    Args:
        distribution: ``SUITE:NAME``. By default smooth random fields with the channels of Poisson's equation, or
            `WITH_A_PDE` for a metric that needs the PDE.
    """

    metric: Metric
    distribution: str | None = None

    def examples(self) -> _Solved:
        """Return fresh examples, which a metric may spoil."""
        wanted = self.distribution or (WITH_A_PDE if self.metric.needs_system else None)
        if wanted is None:
            data = plain_examples()
            return _Solved(data.problem, *data.batch(range(_COUNT)), None)
        from pdebench_fm.plan.sets import open_distribution

        opened = open_distribution(wanted, split="test", count=_COUNT, grid=32, device="cpu")
        inputs, target = opened.examples.batch(range(_COUNT))
        if opened.system is None:
            if self.metric.needs_system:
                raise UsageError(f"{wanted} names no PDE, and the metric needs one")
            return _Solved(opened.examples.problem, inputs, target, None)
        exact = {name: values.double() for name, values in inputs.items()}  # float32 is too coarse to differentiate
        return _Solved(opened.examples.problem, exact, opened.system.solve(exact), opened.system)


def _copied(fields: Fields) -> Fields:
    return {name: values.clone() for name, values in fields.items()}


def check_truth_scores_zero(subject: MetricSubject) -> None:
    """One number comes back per example; the truth scores zero (to rounding for a PDE) if lower is better."""
    metric, data = subject.metric, subject.examples()
    values = data.scores(metric, data.target)
    expect(values.shape == (_COUNT,), f"per_sample must return ({_COUNT},), got {values.shape}")
    if metric.better == "lower":
        largest = _ROUNDING if metric.needs_system else 0.0
        most = float(np.abs(values).max())
        expect(most <= largest, f"the truth must score {largest:g} at most, got {values.tolist()}")


def check_nan_stays_nan(subject: MetricSubject) -> None:
    """A prediction that is not finite makes the summary NaN instead of being left out."""
    metric, data = subject.metric, subject.examples()
    broken = _copied(data.target)
    for value in broken.values():
        value[2] = float("nan")  # whole: a metric may leave a border out
    values = data.scores(metric, broken)
    expect(bool(np.isnan(float(metric.summarise(values)))), "a prediction with NaN must give a NaN summary")


def check_summarises_the_last_axis(subject: MetricSubject) -> None:
    """`summarise` makes one number of each row of (…, examples): intervals are taken from 1,000 of them at once."""
    metric, data = subject.metric, subject.examples()
    values = data.scores(metric, {name: value * 1.1 for name, value in data.target.items()})
    rows = np.stack([values, 2 * values, values[::-1] + 1])
    found = np.asarray(metric.summarise(rows))
    expect(found.shape == (3,), f"summarise must return (3,) for (3, {_COUNT}), got {found.shape}")
    alone = np.array([float(metric.summarise(row)) for row in rows])
    expect(
        bool(np.allclose(found, alone, rtol=1e-6)),
        f"rows must be summarised one by one: {found} together, {alone} alone",
    )


def check_larger_errors_score_worse(subject: MetricSubject) -> None:
    """Noise twice as large scores higher, or lower if `Metric.better` is ``higher``."""
    metric, data = subject.metric, subject.examples()
    expect(metric.better in DIRECTIONS, f"better must be 'lower' or 'higher', got {metric.better!r}")
    scores = []
    for size in (0.1, 0.2):
        worse = {name: value * (1 + size) + size * value.roll(3, dims=-1) for name, value in data.target.items()}
        scores.append(float(metric.summarise(data.scores(metric, worse))))
    rises = scores[0] < scores[1]
    expect(rises == (metric.better == "lower"), f"better = {metric.better!r}, but larger errors scored {scores}")


def check_fields_are_left_alone(subject: MetricSubject) -> None:
    """Inputs, prediction and target are as they were: work on a copy where something is to be changed."""
    metric, data = subject.metric, subject.examples()
    prediction = {name: value * 1.1 for name, value in data.target.items()}
    given = {"inputs": data.inputs, "prediction": prediction, "target": data.target}
    before = {part: _copied(fields) for part, fields in given.items()}
    data.scores(metric, prediction)
    for part, fields in given.items():
        for name, value in fields.items():
            same = bool((value == before[part][name]).all())
            expect(same, f"per_sample must leave {part} alone, {name!r} has changed")


METRIC_CHECKS: tuple[Callable[[MetricSubject], None], ...] = (
    check_fields_are_left_alone,
    check_truth_scores_zero,
    check_nan_stays_nan,
    check_summarises_the_last_axis,
    check_larger_errors_score_worse,
)
