"""Our Adam takes the steps of `torch.optim.Adam`, and imports less."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pdebench_fm.training.adam import Adam

KINDS = [
    pytest.param(torch.float32, True, id="float32-fused"),
    pytest.param(torch.float32, False, id="float32"),
    pytest.param(torch.float64, True, id="float64-fused"),
    pytest.param(torch.complex64, False, id="complex64"),
    pytest.param(torch.complex128, False, id="complex128"),
]
RATES = [1e-2, 3e-3, 1e-2, 0.0, 1e-4]


def weights(dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = ((3, 4), (5,), (2, 2, 2))
    made = [torch.randn(shape, dtype=dtype) for shape in shapes]
    made[2] = made[2].permute(2, 0, 1)  # not contiguous
    return [tensor.requires_grad_() for tensor in made]


def gradients(moved: Sequence[Tensor], step: int) -> None:
    """Give all but the second, which has its first one in the third step, a gradient of that step."""
    torch.manual_seed(100 + step)
    for number, weight in enumerate(moved):
        gradient = torch.randn_like(weight)
        weight.grad = None if number == 1 and step < 2 else gradient


@pytest.mark.parametrize(("dtype", "fused"), KINDS)
def test_its_steps_are_torchs_to_the_bit(dtype: torch.dtype, fused: bool) -> None:
    ours, torchs = weights(dtype), weights(dtype)
    mine, reference = Adam(ours, fused), torch.optim.Adam(torchs, fused=fused)
    for step, rate in enumerate(RATES):
        gradients(ours, step)
        gradients(torchs, step)
        mine.step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        for own, other in zip(ours, torchs, strict=True):
            assert torch.equal(own, other)
    assert not any(torch.equal(own, before) for own, before in zip(ours, weights(dtype), strict=True))


@pytest.mark.parametrize(("dtype", "fused"), KINDS)
def test_it_goes_on_from_a_saved_state(dtype: torch.dtype, fused: bool, tmp_path: Path) -> None:
    whole, broken = weights(dtype), weights(dtype)
    one, other = Adam(whole, fused), Adam(broken, fused)
    for step, rate in enumerate(RATES):
        if step == 3:
            torch.save(other.state(), tmp_path / "state.pt")
            other = Adam(broken, fused)
            other.restore(torch.load(tmp_path / "state.pt", weights_only=True))
        for moved, adam in ((whole, one), (broken, other)):
            gradients(moved, step)
            adam.step(rate)
    assert all(torch.equal(own, resumed) for own, resumed in zip(whole, broken, strict=True))


def test_without_gradients_nothing_happens() -> None:
    before, after = weights(torch.float32), weights(torch.float32)
    Adam(after, fused=True).step(1.0)
    assert all(torch.equal(own, other) for own, other in zip(before, after, strict=True))


FIT = """
import sys
from pathlib import Path
from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from tests.support.toy import Toy

problem = Problem((Channel("source"),), (Channel("solution"),), Grid(8))
examples, model = SmoothExamples(problem, 4), Toy()
model.initialise(problem, examples, 0)
trial, context = TrialSettings({"learning_rate": 1e-3}, seed=0), FitContext(Path(sys.argv[1]))
print(model.fit(examples, examples, Budget(2, None, 2), trial, context).status, "torch._dynamo" in sys.modules)
"""


def test_a_fit_does_not_import_torchs_compiler(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FIT, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ok", "False"]
