from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pdebench_fm.data.combine import Mixture, NoExamples
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import InputNormalisation

SOLUTION = (Channel("solution"),)
POISSON = Problem((Channel("source"), Channel("k11", "constant")), SOLUTION, Grid(8), homogeneous=True)
HELMHOLTZ = Problem((Channel("source"), Channel("omega", "constant")), SOLUTION, Grid(8), homogeneous=True)


def test_scaling_source_and_coefficients_alike_gives_the_same_input() -> None:
    data = SmoothExamples(POISSON, 6)
    normalisation = InputNormalisation.fit(POISSON, data)
    inputs, _ = data.batch(range(6))
    fields, constants = normalisation(POISSON, inputs)
    scaled, scaled_constants = normalisation(POISSON, {name: 10 * value for name, value in inputs.items()})
    torch.testing.assert_close(fields, scaled)
    torch.testing.assert_close(constants, scaled_constants)


def test_every_source_gets_the_median_norm_and_constants_their_median() -> None:
    data = SmoothExamples(POISSON, 7)
    inputs, _ = data.batch(range(7))
    norms = inputs["source"].square().mean(dim=(1, 2)).sqrt()
    normalisation = InputNormalisation.fit(POISSON, data)
    assert normalisation.field_reference == pytest.approx(float(norms.median()))
    assert normalisation.constant_references["k11"] == pytest.approx(float(inputs["k11"].median()))
    fields, constants = normalisation(POISSON, inputs)
    torch.testing.assert_close(fields[:, 0].square().mean(dim=(1, 2)).sqrt(), norms.median().expand(7))
    scale = norms.median() / norms
    torch.testing.assert_close(constants[:, 0], inputs["k11"] / inputs["k11"].median() * scale)


def test_the_reference_of_a_constant_comes_from_the_examples_that_have_it() -> None:
    a, b = SmoothExamples(POISSON, 9), SmoothExamples(HELMHOLTZ, 3, seed=2)
    mixture = Mixture([a, b])
    normalisation = InputNormalisation.fit(mixture.problem, mixture)
    omega = b.batch(range(3))[0]["omega"]
    assert normalisation.constant_references["omega"] == pytest.approx(float(omega.median()))
    _, constants = normalisation(mixture.problem, mixture.batch(range(12))[0])
    assert not constants[:9, 1].any()


def test_the_resolution_does_not_change_the_normalisation() -> None:
    x = torch.arange(16) / 16
    fine = torch.sin(2 * torch.pi * x)[None, None, :].expand(2, 16, 16) * torch.tensor([1.0, 3.0])[:, None, None]
    normalisation = InputNormalisation(True, 0.5, {"k11": 2.0})
    inputs = {"source": fine, "k11": torch.ones(2)}
    coarse = {"source": fine[:, ::2, ::2], "k11": torch.ones(2)}
    on_fine, constants = normalisation(POISSON, inputs)
    on_coarse, same_constants = normalisation(POISSON, coarse)
    torch.testing.assert_close(on_fine[:, :, ::2, ::2], on_coarse)
    torch.testing.assert_close(constants, same_constants)


def test_a_zero_source_stays_finite_and_no_examples_mean_the_identity() -> None:
    normalisation = InputNormalisation(True, 0.5, {"k11": 2.0})
    fields, constants = normalisation(POISSON, {"source": torch.zeros(1, 8, 8), "k11": torch.ones(1)})
    assert torch.equal(fields, torch.zeros(1, 1, 8, 8))
    assert constants.item() == 0.5
    identity = InputNormalisation.fit(POISSON, NoExamples(POISSON))
    source = torch.randn(2, 8, 8)
    fields, constants = identity(POISSON, {"source": source, "k11": torch.tensor([3.0, 4.0])})
    assert torch.equal(fields[:, 0], source)
    assert constants[:, 0].tolist() == [3.0, 4.0]


def test_a_constant_whose_median_is_zero_is_left_as_it_is() -> None:
    class Zeros(SmoothExamples):
        def batch(self, ids):  # type: ignore[no-untyped-def]
            inputs, outputs = super().batch(ids)
            return {**inputs, "k11": torch.zeros(len(ids))}, outputs

    assert InputNormalisation.fit(POISSON, Zeros(POISSON, 3)).constant_references == {"k11": 1.0}


class Scaled(SmoothExamples):
    """Smooth examples in other units."""

    factor = 1.0

    def batch(self, ids):  # type: ignore[no-untyped-def]
        inputs, outputs = super().batch(ids)
        return {name: value * self.factor for name, value in inputs.items()}, outputs


@pytest.mark.parametrize("homogeneous", [True, False])
@pytest.mark.parametrize("factor", [1e20, 1e-25, 1e30, 1e-35])
def test_physical_units_neither_overflow_nor_vanish(factor: float, homogeneous: bool) -> None:
    problem = replace(POISSON, homogeneous=homogeneous)
    data, scaled = SmoothExamples(problem, 6), Scaled(problem, 6)
    scaled.factor = factor
    plain, normalisation = InputNormalisation.fit(problem, data), InputNormalisation.fit(problem, scaled)
    assert normalisation.field_reference == pytest.approx(factor * plain.field_reference, rel=1e-5)
    assert normalisation.constant_references["k11"] == pytest.approx(
        factor * plain.constant_references["k11"], rel=1e-5
    )
    fields, constants = plain(problem, data.batch(range(6))[0])
    others, same_constants = normalisation(problem, scaled.batch(range(6))[0])
    shown = plain.field_reference if homogeneous else 1.0  # a homogeneous problem keeps its own size near 1
    torch.testing.assert_close(others * shown, fields)
    torch.testing.assert_close(same_constants, constants)


def test_a_constant_that_is_mostly_zero_is_brought_to_the_size_it_has() -> None:
    class Rare(SmoothExamples):
        def batch(self, ids):  # type: ignore[no-untyped-def]
            inputs, outputs = super().batch(ids)
            return {**inputs, "k11": 1e20 * (torch.as_tensor(list(ids)) == 2)}, outputs

    assert InputNormalisation.fit(POISSON, Rare(POISSON, 5)).constant_references == {"k11": pytest.approx(1e20)}


def test_plain_data_brings_it_back() -> None:
    normalisation = InputNormalisation.fit(POISSON, SmoothExamples(POISSON, 3))
    assert InputNormalisation.from_state(normalisation.state()) == normalisation
