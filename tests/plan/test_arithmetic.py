"""What a network asks of a machine, counted without running it."""

from __future__ import annotations

import pytest
import torch

from pdebench_fm.plan.arithmetic import Machine, count_step, measure_machine
from pdebench_fm.plan.model import model_spec
from pdebench_fm.registry import registry
from pdebench_fm.training import NetworkModel
from tests.plugins.baselines.synthetic import screened_poisson


def network(name: str) -> NetworkModel:
    model = model_spec(registry(), name).make(registry())
    assert isinstance(model, NetworkModel)
    return model


@pytest.mark.parametrize("name", ["fno-64k", "unet"])
def test_work_grows_with_the_examples_and_the_grid(name: str) -> None:
    few, many, fine = (
        count_step(network(name).build, screened_poisson(grid), batch)[0] for batch, grid in ((4, 32), (8, 32), (4, 64))
    )
    assert many.flops == pytest.approx(2 * few.flops, rel=0.05)
    assert few.bytes < many.bytes < fine.bytes
    assert 3 < fine.flops / few.flops < 5


def test_weights_are_counted_in_bytes() -> None:
    build, problem = network("fno-64k").build, screened_poisson(32)
    expected = 4 * sum(weight.numel() for weight in build(problem).parameters())
    assert count_step(build, problem, 1)[1] == expected


def test_counting_leaves_random_numbers_alone() -> None:
    before = torch.get_rng_state()
    count_step(network("unet").build, screened_poisson(16), 1)
    assert torch.equal(before, torch.get_rng_state())


def test_a_faster_machine_takes_less_time() -> None:
    step, _ = count_step(network("unet").build, screened_poisson(16), 1)
    assert step.seconds(Machine(1e11, 1e10, 1e-6)) < step.seconds(Machine(1e10, 1e10, 1e-6))


def test_a_machine_is_measured() -> None:
    machine = measure_machine("cpu")
    assert min(machine.flops, machine.bytes, machine.call) > 0
    assert measure_machine("cpu") is machine
