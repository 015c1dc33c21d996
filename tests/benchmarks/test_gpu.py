"""What of benchmarks/gpu.py can be tried without a GPU: how it counts, compares, and goes on where something fails."""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pdefm_fno.network import FourierNetwork
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

CASES = [{"size": "64K", "batch": batch, "kind": "ours"} for batch in (1, 2)]
FLOOR = {"bytes_per_second": 1e12, "flops_per_second": 1e13}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("gpu")


def die(*arguments: object) -> None:
    os._exit(1)


# By hand, for n = 128, in millions. A transform along x is 4 m n² d, along y 8 m (m + 1) n d. Seven of them (not the
# first, of the source alone) and as many transposed; mixing 16 m² d², a 1×1 convolution 2 n² d² and the head
# 4 n² d (d + 1), each three times; four layers, the first 1×1 convolution of one channel and twice.
#   16M, d = m = 32:        x 67.11 + y 34.60;  14 × 101.71 + 3.18 + 12 × 16.78 + 9 × 33.55 + 2.10 + 3 × 69.21 = 2,140
#   256M, d = 128, m = 32:  x 268.4 + y 138.4;  14 × 406.8 + 3.2 + 12 × 268.4 + 9 × 536.9 + 8.4 + 3 × 1,082.1 = 17,007
@pytest.mark.parametrize(("width", "modes", "expected"), [(32, 32, 2.140), (128, 32, 17.007)])
def test_operations_by_hand(gpu: ModuleType, width: int, modes: int, expected: float) -> None:
    assert gpu.operations(width, modes, 128) / 1e9 == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("size", ["64K", "1M", "16M"])
def test_operations_are_those_that_a_step_takes(gpu: ModuleType, size: str) -> None:
    width, modes = gpu.SIZES[size]
    network = FourierNetwork(1, 3, 1, width, modes)
    aten = torch.ops.aten
    in_place = {  # and the products that torch does not count
        aten.addmm_: lambda onto, a, b, *_, **__: 2 * a[0] * a[1] * b[1],
        aten.baddbmm_: lambda onto, a, b, *_, **__: 2 * a[0] * a[1] * a[2] * b[2],
        aten.mv: lambda a, b, *_, **__: 2 * a[0] * a[1],
    }
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        network(torch.randn(1, 1, 128, 128), torch.randn(1, 3)).square().sum().backward()
    again = 4 * 128**2 * width**2 if width > 16 else 0  # the head's hidden plane, not kept for the backward pass
    assert counter.get_total_flops() - again == pytest.approx(gpu.operations(width, modes, 128), rel=0.01)


class Step:
    """A training step whose gradients a test may spoil, as a replay would that works on other memory."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = FourierNetwork(1, 1, 1, width=4, modes=2)
        self.fields, self.constants = torch.randn(3, 1, 8, 8), torch.randn(3, 1)
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1)
        self.factors = dict.fromkeys((name for name, _ in self.network.named_parameters()), 1.0)

    def loss(self) -> Tensor:
        return self.network(self.fields, self.constants).square().sum()

    def __call__(self) -> None:
        self.optimiser.zero_grad()
        self.loss().backward()
        for name, parameter in self.network.named_parameters():
            assert parameter.grad is not None
            parameter.grad *= self.factors[name]
        self.optimiser.step()


def test_equal_gradients_do_not_differ_and_the_weights_are_put_back(gpu: ModuleType) -> None:
    step = Step()
    before = {name: value.clone() for name, value in step.network.state_dict().items()}
    assert gpu.gradient_difference(step.network, step.loss, step) == 0
    for name, value in step.network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("name", ["lift.weight", "layers.2.spectral.weight", "project.bias"])
def test_the_gradient_that_differs_most_counts(gpu: ModuleType, name: str) -> None:
    step = Step()
    step.factors[name] = 1.25
    assert gpu.gradient_difference(step.network, step.loss, step) == pytest.approx(0.25, rel=1e-5)
    step.factors[name] = math.nan
    assert math.isnan(gpu.gradient_difference(step.network, step.loss, step))


def test_a_weight_without_gradient_is_wrong(gpu: ModuleType) -> None:
    step = Step()
    assert gpu.gradient_difference(step.network, step.loss, lambda: None) == math.inf


def test_a_process_that_dies_fails_its_rows_alone(gpu: ModuleType) -> None:
    rows = gpu.apart(die, CASES)
    assert [{key: row[key] for key in CASES[0]} for row in rows] == CASES
    assert all("BrokenProcessPool" in row["failed"] for row in rows)


def test_a_step_that_cannot_be_taken_fails_only_its_row(gpu: ModuleType) -> None:
    cases = [{**CASES[0], "size": "none"}, {**CASES[0], "kind": "plain"}, CASES[0]]
    bad, plain, ours = gpu.completed(cases, "cpu", FLOOR, 1, n=16)
    assert "KeyError" in bad["failed"]
    assert plain["seconds"] > 0
    assert "floor" not in plain
    assert ours["floor"] >= ours["memory floor"] > 0


@pytest.mark.parametrize(
    ("correct", "differ", "said"),
    [
        (1e-7, 1e-6, None),
        (2e-4, 1e-6, "FNO 64K, outputs differs by 2.0e-04"),
        (math.nan, 1e-6, "FNO 64K, outputs differs by nan"),
        ({"failed": "RuntimeError: no kernel"}, 1e-6, "FNO 64K, outputs: RuntimeError: no kernel"),
        (1e-7, 2e-4, "step 64K, batch 2, ours, gradients differs by 2.0e-04"),
        (1e-7, {"failed": "OutOfMemoryError: all of it"}, "step 64K, batch 2, ours, gradients: OutOfMemoryError"),
    ],
)
def test_more_than_rounding_is_a_mistake(gpu: ModuleType, correct: Any, differ: Any, said: str | None) -> None:
    results = {"correctness": {"FNO 64K, outputs": correct}, "steps": [{**CASES[1], "gradients differ": differ}]}
    wrong = gpu.mistakes(results)
    assert len(wrong) == (said is not None)
    assert said is None or wrong[0].startswith(said)


def test_figures_that_json_cannot_hold_are_saved_as_text(gpu: ModuleType, tmp_path: Path) -> None:
    gpu.write(tmp_path / "gpu.json", {"results": [{"seconds": math.nan}]})
    assert json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")) == {"results": [{"seconds": "nan"}]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "abacus"], "cannot use 'abacus'"),
        (["--device", "cpu", "--output", "nowhere/gpu.json"], "there is no folder"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    gpu: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit, match="2"):
        gpu.main()
    assert said in capsys.readouterr().err.splitlines()[-1]
