"""What predictions cost: operations by formulas known from textbooks, time and memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pdebench_fm.data.open import OpenSet
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.leaderboard.audit import problems
from pdebench_fm.plan.model import model_spec
from pdebench_fm.registry import registry
from pdebench_fm.run.runner import RunResult
from pdebench_fm.scoring.cost import count_flops, count_network, fastest, measure_cost
from pdebench_fm.training import NetworkModel
from tests.plugins.baselines.synthetic import Synthetic, screened_poisson


def test_a_product_is_two_operations_an_entry_and_four_times_as_many_if_complex() -> None:
    one, other = torch.ones(3, 5), torch.ones(5, 7)
    assert count_flops(lambda: one @ other) == 2 * 3 * 5 * 7
    assert count_flops(lambda: one.to(torch.complex64) @ other.to(torch.complex64)) == 8 * 3 * 5 * 7


@pytest.mark.parametrize("shape", [(2, 16, 16), (3, 8, 32), (1, 9, 9)])
def test_a_fourier_transform_is_5_n_log_n_and_a_real_one_half(shape: tuple[int, ...]) -> None:
    batch, points = shape[0], math.prod(shape[1:])
    field = torch.ones(shape)
    spectrum, whole = torch.fft.rfft2(field), field.to(torch.complex64)
    expected = 5 * batch * points * math.log2(points)
    assert count_flops(lambda: torch.fft.fft2(whole)) == pytest.approx(expected, abs=1)
    assert count_flops(lambda: torch.fft.rfft2(field)) == pytest.approx(expected / 2, abs=1)
    assert count_flops(lambda: torch.fft.irfft2(spectrum, s=shape[1:])) == pytest.approx(expected / 2, abs=1)


def test_attention_counts_alike_with_and_without_data() -> None:
    real, meta = torch.ones(1, 2, 16, 8), torch.ones(1, 2, 16, 8, device="meta")
    attend = nn.functional.scaled_dot_product_attention
    assert (
        count_flops(lambda: attend(real, real, real))
        == count_flops(lambda: attend(meta, meta, meta))
        == 4 * 2 * 16**2 * 8
    )


@pytest.mark.parametrize("name", ["fno-64k", "unet"])
def test_what_is_measured_is_what_the_architecture_says(name: str) -> None:
    problem = screened_poisson(16)
    examples = Synthetic(4, 16)
    model = model_spec(registry(), name).make(registry())
    assert isinstance(model, NetworkModel)
    model.initialise(problem, examples, 0)
    cost, notes = measure_cost(model, OpenSet(examples, None), "cpu", "cpu, threads: 1")
    assert notes == {}
    assert cost.flops == count_network(model, problem, problem) > 0
    assert (cost.inference_batch, cost.inference_device) == (4, "cpu, threads: 1")
    assert 0 < cost.inference_seconds < 1
    assert cost.peak_memory > 2**20
    assert count_network(model, problem, screened_poisson(32)) > 2 * cost.flops


def test_a_model_whose_cost_cannot_be_measured_keeps_its_score() -> None:
    class Refuses(OperatorModel):
        def predict(self, problem, inputs):
            raise ValueError("not one by one")

    Refuses.__abstractmethods__ = frozenset()
    cost, notes = measure_cost(Refuses(), OpenSet(Synthetic(4, 8), None), "cpu", "cpu")
    assert cost.inference_seconds is None
    assert notes == {"cost": "not measured: ValueError: not one by one"}


def test_slow_work_is_done_once() -> None:
    calls = []
    fastest(lambda: (calls.append(1), time.sleep(0.26)), "cpu")
    assert len(calls) == 1


def test_waiting_for_other_processes_is_not_counted() -> None:
    assert fastest(lambda: time.sleep(0.1), "cpu") < 0.05


def test_every_point_that_was_scored_has_its_cost(tmp_path: Path, finished_run: Callable[[Path], RunResult]) -> None:
    records = finished_run(tmp_path / "runs").records
    assert {record.status for record in records} == {"ok"}
    for record in records:
        assert record.flops
        assert record.peak_memory
        assert record.inference_seconds
        assert record.inference_batch == 8
        assert record.inference_device.startswith("cpu")
        assert list(problems(record)) == []
