"""The checks of metrics can fail: for each there is a metric that breaks that claim and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from pdebench_fm.interfaces import Metric, PDESystem
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.testing import METRIC_CHECKS, MetricSubject
from pdebench_fm.testing.claims import claims
from tests.testing.outcomes import outcomes


class Difference(Metric):
    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        return (prediction["solution"] - target["solution"]).double().flatten(1).norm(dim=1)


class Floored(Difference):
    def per_sample(self, *arguments: Any) -> Tensor:
        return super().per_sample(*arguments) + 1e-6


class OneForAll(Difference):
    def per_sample(self, *arguments: Any) -> Tensor:
        return super().per_sample(*arguments).mean(dim=0, keepdim=True)


class SkipsNaN(Difference):
    def summarise(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(np.nanmean(values, axis=-1))


class OneForAllRows(Difference):
    def summarise(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values.mean())


class OverTheWrongAxis(Difference):
    def summarise(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values.mean(axis=0))


class HigherIsBetter(Difference):
    def per_sample(self, *arguments: Any) -> Tensor:
        return -super().per_sample(*arguments)


class Correlation(Difference):
    better = "higher"

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        one, other = (fields["solution"].double().flatten(1) for fields in (prediction, target))
        one, other = one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True)
        return (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))


class CorrelationThatDoesNotSaySo(Correlation):
    better = "lower"


class NoDirection(Correlation):
    better = "max"  # type: ignore[assignment]


class Residual(Metric):
    @property
    def needs_system(self) -> bool:
        return True

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        assert system is not None
        residual = system.residual(inputs, prediction)
        assert residual is not None
        return residual.flatten(1).norm(dim=1)


class ResidualOfTheTarget(Residual):
    """Never looks at the prediction."""

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        return super().per_sample(problem, inputs, target, target, system)


class ResidualAndMore(Residual):
    def per_sample(self, *arguments: Any) -> Tensor:
        return super().per_sample(*arguments) + 1e-3


class InPlace(Difference):
    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        prediction["solution"] -= target["solution"]
        return prediction["solution"].double().flatten(1).norm(dim=1)


@pytest.mark.parametrize(
    ("metric", "broken"),
    [
        (InPlace, {"fields_are_left_alone"}),
        (Difference, set()),
        (Residual, set()),
        (ResidualOfTheTarget, {"nan_stays_nan", "larger_errors_score_worse"}),
        (ResidualAndMore, {"truth_scores_zero"}),
        (Floored, {"truth_scores_zero"}),
        (OneForAll, {"truth_scores_zero"}),
        (SkipsNaN, {"nan_stays_nan"}),
        (OneForAllRows, {"summarises_the_last_axis"}),
        (OverTheWrongAxis, {"summarises_the_last_axis"}),
        (HigherIsBetter, {"larger_errors_score_worse"}),
        (Correlation, set()),
        (CorrelationThatDoesNotSaySo, {"truth_scores_zero", "larger_errors_score_worse"}),
        (NoDirection, {"larger_errors_score_worse"}),
    ],
)
def test_a_metric_fails_the_claim_it_breaks(metric: type[Metric], broken: set[str]) -> None:
    assert outcomes(claims(METRIC_CHECKS, MetricSubject(metric()))).keys() == broken


class OfWaves(Difference):
    """Reads a constant that only Helmholtz's equation has."""

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        return super().per_sample(problem, inputs, prediction, target, system) / inputs["omega"]


def test_a_metric_that_needs_other_channels_names_a_distribution_that_has_them() -> None:
    without = outcomes(claims(METRIC_CHECKS, MetricSubject(OfWaves())))
    assert (len(without), {*without.values()}) == (len(METRIC_CHECKS), {"'omega'"})
    assert outcomes(claims(METRIC_CHECKS, MetricSubject(OfWaves(), "smoke:SYS-3(1,5)"))) == {}
