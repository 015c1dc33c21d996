from __future__ import annotations

import pytest
import torch
from pdefm_metrics.residual import PDEResidual
from pdefm_spectral.poisson import Poisson
from torch import Tensor

from pdebench_fm.data.open import OpenSet
from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.interfaces import PDESystem
from pdebench_fm.plan.sets import open_distribution
from pdebench_fm.problem import Fields
from pdebench_fm.registry.discovery import registry
from pdebench_fm.scoring.point import per_sample
from tests.support.toy import Toy


class Guess(Toy):
    """Predicts the source."""

    def predict(self, problem: object, inputs: Fields) -> Fields:  # type: ignore[override]
        return {"solution": inputs["source"]}


class Rescaled(Poisson):
    """Measures its residual against twice the default."""

    def residual_scale(self, inputs: Fields) -> Tensor:
        return 2 * super().residual_scale(inputs)


class WithoutResidual(Poisson):
    def residual(self, inputs: Fields, outputs: Fields) -> None:  # type: ignore[override]
        return None


def opened(kind: type[PDESystem]) -> OpenSet:
    found = open_distribution("smoke:SYS-1(1,5)", split="test", count=4, grid=16, device="cpu")
    assert isinstance(found.examples, SampledExamples)
    system = kind(found.examples.problem.grid)
    return OpenSet(SampledExamples(found.examples.sampler, system, 4), system)


METRICS = {name: registry().load("metrics", name)() for name in ("relative_l2", "pde_residual")}


def test_the_scale_is_the_norm_of_the_first_input_field() -> None:
    """Shipped scores depend on it to the last digit."""
    one = opened(Poisson)
    assert one.system is not None
    inputs, _ = one.examples.batch(range(4))
    prediction = Guess().predict(one.examples.problem, inputs)
    exact = {name: value.double() for name, value in inputs.items()}
    residual = one.system.residual(exact, {"solution": prediction["solution"].double()})
    assert residual is not None
    expected = residual.flatten(1).norm(dim=1) / exact["source"].flatten(1).norm(dim=1)
    assert torch.equal(PDEResidual().per_sample(one.examples.problem, inputs, prediction, {}, one.system), expected)


def test_a_system_names_its_own_scale() -> None:
    plain, rescaled = (per_sample(Guess(), [opened(kind)], METRICS)["pde_residual"] for kind in (Poisson, Rescaled))
    assert rescaled == pytest.approx(plain / 2)


@pytest.mark.parametrize("kinds", [(WithoutResidual,), (Poisson, WithoutResidual)])
def test_a_metric_of_the_residual_is_left_out_where_a_system_has_none(kinds: tuple[type[PDESystem], ...]) -> None:
    assert per_sample(Guess(), [opened(kind) for kind in kinds], METRICS).keys() == {"relative_l2"}
