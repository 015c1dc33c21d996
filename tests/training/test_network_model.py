from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pdebench_fm.errors import DataFileError
from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import NetworkModel, ParameterGroup
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8), homogeneous=True)
DATA = SmoothExamples(PROBLEM, 4)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = Toy(width=3)
    model.initialise(PROBLEM, DATA, 1)
    model.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", [".", "model.safetensors"])
def test_a_folder_or_its_one_file_brings_the_model_back(saved: Path, file: str) -> None:
    loaded = Toy.from_file(saved / file)
    original = Toy(width=3)
    original.initialise(PROBLEM, DATA, 1)
    assert loaded.width == 3
    inputs, _ = DATA.batch(range(4))
    assert torch.equal(loaded.predict(PROBLEM, inputs)["solution"], original.predict(PROBLEM, inputs)["solution"])


def test_unreadable_weights_are_one_clear_error(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataFileError, match=r"model.safetensors: cannot be read as Toy weights") as error:
        Toy.from_file(saved)
    assert "\n" not in str(error.value)


def _changed(value: object, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(about: dict[str, Any]) -> None:
        part = about
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_changed("false", "problem", "grid", "periodic"), "grid.periodic: must be true or false, got 'false'"),
        (_changed(1.0, "problem", "grid", "size"), "grid.size: must be a whole number, got 1.0"),
        (_changed(None, "problem"), "problem: must be a mapping, got nothing"),
        (_changed("no", "normalisation", "homogeneous"), "homogeneous: must be true or false, got 'no'"),
        (_changed(None, "normalisation", "field_reference"), "field_reference: must be a number, got nothing"),
        (_changed(0, "normalisation", "field_reference"), "field_reference: must be more than 0, got 0"),
        (
            _changed("1", "normalisation", "constant_references", "k11"),
            "constant_references.k11: must be a number",
        ),
        (_changed({}, "normalisation", "constant_references"), "constant_references: 'k11' is required"),
        (_changed(2, "normalisation", "shift"), "shift: unknown key"),
        (_changed(3.0, "arguments", "width"), "width: must be a whole number, got 3.0"),
        (_changed("3", "arguments", "width"), "width: must be a whole number, got '3'"),
        (_changed(4, "arguments", "width"), "made with width=4, this model has width=3"),
        (_changed({}, "arguments"), "made with no width, this model has width=3"),
        (_changed(1, "anything"), "anything: unknown key"),
    ],
)
def test_what_a_file_of_weights_says_is_taken_literally(
    saved: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    file = saved / "model.safetensors"
    with safe_open(file, "pt") as opened:
        about = json.loads(opened.metadata()["pdebench_fm"])
    change(about)
    save_file(load_file(file), file, metadata={"pdebench_fm": json.dumps(about)})
    with pytest.raises(DataFileError) as caught:
        Toy(width=3).load(saved)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)


def test_initialising_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    Toy().initialise(PROBLEM, DATA, 5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_model_without_weights_says_so() -> None:
    with pytest.raises(RuntimeError, match="call initialise or load first"):
        _ = Toy().parameters


class _Spectral(nn.Module):
    """One complex number a mode, before any real weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size, size // 2 + 1, dtype=torch.complex64))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.scale * torch.fft.irfft2(torch.fft.rfft2(fields) * self.weight, s=fields.shape[-2:])


class Spectral(NetworkModel):
    def build(self, problem: Problem) -> nn.Module:
        return _Spectral(problem.grid.size)


class _SpectralAlone(_Spectral):
    """No real weight: what precision it is given goes by its complex one."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        del self.scale

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        assert fields.dtype == self.weight.dtype.to_real()
        return torch.fft.irfft2(torch.fft.rfft2(fields) * self.weight, s=fields.shape[-2:])


class SpectralAlone(NetworkModel):
    def build(self, problem: Problem) -> nn.Module:
        return _SpectralAlone(problem.grid.size)


@pytest.mark.parametrize("made", [Spectral, SpectralAlone])
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_complex_weights_are_trained_and_kept(made: type[NetworkModel], precision: str, tmp_path: Path) -> None:
    model = made()
    model.initialise(PROBLEM, DATA, 0)
    context = FitContext(tmp_path, precision=precision)
    report = model.fit(DATA, DATA, Budget(30, None, 4), TrialSettings({"learning_rate": 0.03}, 0), context)
    losses = [entry["train_loss"] for entry in report.history]
    assert report.status == "ok"
    assert losses[-1] < 0.5 * losses[0]
    assert [p.dtype for p in model.network.parameters()] == [torch.complex64, torch.float32][
        : 2 if made is Spectral else 1
    ]
    model.save(tmp_path)
    inputs, _ = DATA.batch(range(4))
    predicted, again = (m.predict(PROBLEM, inputs)["solution"] for m in (model, made.from_file(tmp_path)))
    assert predicted.dtype == torch.float32
    assert torch.equal(predicted, again)


class SlowHead(Toy):
    """Trains its last layer at a tenth of the rate, and its first not at all."""

    def parameter_groups(self, module: nn.Module) -> Sequence[ParameterGroup]:
        return [([module.project.weight], 1.0), ([module.project.bias], 0.1)]  # type: ignore[union-attr,list-item]


def test_a_group_of_parameters_has_its_own_multiple_of_the_learning_rate(tmp_path: Path) -> None:
    model = SlowHead()
    model.initialise(PROBLEM, DATA, 0)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.fit(DATA, DATA, Budget(None, 1, 4), TrialSettings({"learning_rate": 1e-2}, 0), FitContext(tmp_path))
    moved = {name: (value - before[name]).abs().max().item() for name, value in model.network.state_dict().items()}
    assert moved["lift.weight"] == moved["lift.bias"] == 0
    assert moved["project.weight"] == pytest.approx(1e-2, rel=1e-3)  # the first step of Adam is the rate itself
    assert moved["project.bias"] == pytest.approx(1e-3, rel=1e-3)


class _Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1, 1)
        self.second = self.first

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.second(self.first(fields[..., None]))[..., 0]


class Tied(NetworkModel):
    def build(self, problem: Problem) -> nn.Module:
        return _Tied()


def test_weights_with_two_names_are_kept(tmp_path: Path) -> None:
    model = Tied()
    model.initialise(PROBLEM, DATA, 0)
    model.save(tmp_path)
    inputs, _ = DATA.batch(range(4))
    predicted, again = (m.predict(PROBLEM, inputs)["solution"] for m in (model, Tied.from_file(tmp_path)))
    assert torch.equal(predicted, again)
