"""Checks of a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pdebench_fm.interfaces import Metric
from pdebench_fm.plugins import registry
from pdebench_fm.testing.claims import Check, claims, expect, parametrised
from pdebench_fm.testing.examples import plain_examples


def metric_checks(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered metric."""
    return parametrised(lambda: checks_of_metric(name), METRIC_CHECKS)


def checks_of_metric(name: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered metric."""
    return claims(METRIC_CHECKS, registry().load("metrics", name)())


def check_truth_scores_zero(metric: Metric) -> None:
    """The truth itself scores zero, and one number comes back per example."""
    if metric.needs_system:
        return
    data = plain_examples()
    inputs, target = data.batch(range(4))
    values = metric.per_sample(data.problem, inputs, target, target, None)
    expect(tuple(values.shape) == (4,), f"per_sample must return (4,), got {tuple(values.shape)}")
    expect(float(values.abs().max()) == 0.0, f"the truth must score 0, got {values.tolist()}")


def check_nan_stays_nan(metric: Metric) -> None:
    """A prediction that is not finite makes the summary NaN instead of being left out."""
    if metric.needs_system:
        return
    data = plain_examples()
    inputs, target = data.batch(range(4))
    broken = {name: value.clone() for name, value in target.items()}
    for value in broken.values():
        value[2, 0, 0] = float("nan")
    values = metric.per_sample(data.problem, inputs, broken, target, None).double().cpu().numpy()
    expect(bool(np.isnan(float(metric.summarise(values)))), "a prediction with NaN must give a NaN summary")


def check_worse_scores_higher(metric: Metric) -> None:
    """Twice the error scores higher."""
    if metric.needs_system:
        return
    data = plain_examples()
    inputs, target = data.batch(range(4))
    scores = []
    for factor in (1.1, 1.2):
        worse = {name: value * factor for name, value in target.items()}
        values = metric.per_sample(data.problem, inputs, worse, target, None).double().cpu().numpy()
        scores.append(float(metric.summarise(values)))
    expect(scores[0] < scores[1], f"twice the error must score higher, got {scores}")


METRIC_CHECKS: tuple[Callable[[Metric], None], ...] = (
    check_truth_scores_zero,
    check_nan_stays_nan,
    check_worse_scores_higher,
)
