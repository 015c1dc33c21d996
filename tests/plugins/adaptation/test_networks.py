"""Protocols that train a part of a network: what they leave alone, and what they train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pdefm_adaptation.frozen import FrozenBody, HeadOnly
from pdefm_adaptation.lora import LoRA
from pdefm_adaptation.ridge import DIRECT, LastLayerRidge, Regressed
from pdefm_fno.model import FNO
from pdefm_unet.model import UNet
from torch import nn

from pdebench_fm.errors import SettingError, UnsupportedError, UsageError
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.training import NetworkModel
from tests.plugins.adaptation.networks import ComplexModel, changed, fitted, state
from tests.plugins.baselines.synthetic import Synthetic

TRAIN = Synthetic(8, 16, seed=1, low=0.05, high=0.2)
MODELS: dict[str, Callable[[], NetworkModel]] = {
    "fno": lambda: FNO(4, 3, 2),
    "unet": lambda: UNet(4, 1),
    "complex": ComplexModel,
}


def made(name: str) -> NetworkModel:
    model = MODELS[name]()
    model.initialise(TRAIN.problem, TRAIN, 0)
    return model


@pytest.mark.parametrize(
    ("name", "embedding", "head"),
    [("fno", "lift.", "project."), ("unet", "down.0.0.", "project."), ("complex", "read.", "write.")],
)
def test_what_is_frozen_stays(name: str, embedding: str, head: str, tmp_path: Path) -> None:
    for protocol, trained in ((HeadOnly(), (head,)), (FrozenBody(), (embedding, head))):
        model = made(name)
        before, wrapped = state(model), protocol.wrap(model)
        assert fitted(wrapped, tmp_path, TRAIN).status == "ok"
        moved = changed(before, state(model))
        assert moved
        assert moved == {key for key in before if key.startswith(trained)}  # running statistics stay too
        assert all(weight.requires_grad for weight in model.network.parameters())
        assert f"of {model.parameters:,}: " in wrapped.notes()["trained weights"]


@pytest.mark.parametrize("name", MODELS)
def test_an_update_has_low_rank(name: str, tmp_path: Path) -> None:
    model = made(name)
    before, wrapped = state(model), LoRA(rank=1).wrap(model)
    assert fitted(wrapped, tmp_path, TRAIN).status == "ok"
    after = state(model)
    moved = changed(before, after)
    assert moved == {key for key, value in before.items() if value.ndim > 1 and not key.startswith("write.")}
    for key in moved:
        change = after[key] - before[key]
        if key.endswith("spectral.weight"):
            change = change.permute(2, 3, 0, 4, 1)  # from the layout of the state dict to that of the weight
        folded = [change.flatten(0, axis).flatten(1) for axis in range(change.ndim - 1)]
        assert 1 in [int(torch.linalg.matrix_rank(matrix, rtol=1e-4)) for matrix in folded], key
    assert all(weight.requires_grad for weight in model.network.parameters())


def test_a_shared_weight_is_updated_once_and_stays_shared(tmp_path: Path) -> None:
    model = made("complex")
    assert fitted(LoRA(rank=2).wrap(model), tmp_path, TRAIN).status == "ok"
    network = model.network
    assert network.one.weight is network.two.weight
    (tmp_path / "saved").mkdir()
    wrapped = LoRA(rank=2).wrap(ComplexModel())
    model.save(tmp_path / "saved")
    wrapped.load(tmp_path / "saved")
    inputs, _ = TRAIN.batch(range(4))
    one, two = (each.predict(TRAIN.problem, inputs)["solution"] for each in (model, wrapped))
    assert one.equal(two)


def test_the_weights_of_the_best_epoch_are_those_that_were_validated(tmp_path: Path) -> None:
    model = made("fno")
    report = fitted(LoRA(rank=2).wrap(model), tmp_path, TRAIN, steps=8)
    validation = Synthetic(4, 16, seed=9)
    inputs, outputs = validation.batch(range(4))
    missed = (model.predict(validation.problem, inputs)["solution"] - outputs["solution"]).square().sum() / 4
    best = report.history[report.best_epoch - 1]["validation_loss"]
    assert missed.item() == pytest.approx(best, rel=1e-4)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1"):
        LoRA(rank=0)


@pytest.mark.parametrize("name", ["fno", "unet"])
def test_ridge_regression_finds_the_last_layer(name: str, tmp_path: Path) -> None:
    teacher, model = made(name), made(name)
    with torch.no_grad():
        teacher.network.project.weight.mul_(2).add_(0.3)
        teacher.network.project.bias.add_(1)
    train = Synthetic(8, 16, seed=1, low=0.05, high=0.2)
    train.outputs = {"solution": teacher.predict(train.problem, train.inputs)["solution"]}
    before, wrapped = state(model), LastLayerRidge().wrap(model)
    assert fitted(wrapped, tmp_path, train, ridge=1e-10).status == "ok"
    after = state(model)
    assert changed(before, after) == {"project.weight", "project.bias"}
    prediction = model.predict(train.problem, train.inputs)["solution"]
    assert torch.allclose(prediction, train.outputs["solution"], rtol=1e-3, atol=1e-4)
    untouched = made(name)
    assert fitted(LastLayerRidge().wrap(untouched), tmp_path, train, ridge=1e9).status == "ok"
    assert all(torch.allclose(before[key], value, atol=1e-6) for key, value in state(untouched).items())


class _Large(NetworkModel):
    """Its last layer has more weights than can be solved for one by one, some without effect."""

    def __init__(self, complex_weights: bool = False) -> None:
        self.complex_weights = complex_weights

    def build(self, problem):
        return _LargeNetwork(problem.grid.size, self.complex_weights)

    def parts(self):
        return {"head": ["last"]}


class _LargeNetwork(nn.Module):
    def __init__(self, size: int, complex_weights: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 9, 1), nn.Linear(9, size * size)
        if complex_weights:
            self.last = nn.Linear(9, size * size, dtype=torch.complex64)

    def forward(self, fields, constants):
        means = torch.tanh(self.first(fields))[:, :, ::2, ::2].mean((2, 3))
        return self.last(means.to(self.last.weight)).real.unflatten(1, fields.shape[2:])[:, None]


@pytest.mark.parametrize("complex_weights", [False, True])
def test_ridge_regression_finds_a_large_layer(complex_weights: bool, tmp_path: Path) -> None:
    model, teacher = _Large(complex_weights), _Large(complex_weights)
    for seed, each in enumerate((model, teacher)):
        each.initialise(TRAIN.problem, TRAIN, seed)
    assert sum(weight.numel() for weight in teacher.network.last.parameters()) > DIRECT
    with torch.no_grad():
        teacher.network.first.load_state_dict(model.network.first.state_dict())
    train = Synthetic(8, 16, seed=1, low=0.05, high=0.2)
    train.outputs = {"solution": teacher.predict(train.problem, train.inputs)["solution"]}
    before, wanted = state(model), train.outputs["solution"]
    untrained = model.predict(train.problem, train.inputs)["solution"]
    assert fitted(LastLayerRidge().wrap(model), tmp_path, train, ridge=1e-8).status == "ok"
    assert changed(before, state(model)) == {"last.weight", "last.bias"}
    prediction = model.predict(train.problem, train.inputs)["solution"]
    assert (prediction - wanted).norm() < 1e-2 * (untrained - wanted).norm()
    assert all(weight.requires_grad for weight in model.network.parameters())


def test_both_ways_of_ridge_regression_agree(tmp_path: Path) -> None:
    predictions = []
    for direct in (0, DIRECT):
        model = made("unet")
        assert fitted(Regressed(model, direct), tmp_path, TRAIN, ridge=1e-5).status == "ok"
        predictions.append(model.predict(TRAIN.problem, TRAIN.inputs)["solution"])
    untrained = made("unet").predict(TRAIN.problem, TRAIN.inputs)["solution"]
    by_gradients, directly = predictions
    assert (by_gradients - directly).norm() < 1e-2 * (untrained - directly).norm()


class _Bent(NetworkModel):
    """Its last layer is followed by a nonlinearity, or is large."""

    def __init__(self, width: int = 2) -> None:
        self.width = width

    def build(self, problem):
        return _BentNetwork(self.width)


class _BentNetwork(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, width, 1), nn.Conv2d(width, 1, 1)

    def forward(self, fields, constants):
        return torch.tanh(5 * self.last(self.first(fields)))


def test_a_large_layer_of_a_network_that_predicts_nan_has_diverged(tmp_path: Path) -> None:
    model = _Large()
    model.initialise(TRAIN.problem, TRAIN, 0)
    with torch.no_grad():
        model.network.first.bias.fill_(torch.nan)
    assert fitted(LastLayerRidge().wrap(model), tmp_path, TRAIN, ridge=1e-4).status == "diverged"


class _Rescaled(_Large):
    """Predicts something else than what its network returns."""

    def predict(self, problem, inputs):
        return {name: 2 * value for name, value in super().predict(problem, inputs).items()}


def test_ridge_regression_refuses_what_it_cannot_solve(tmp_path: Path) -> None:
    for model, message in (
        (_Bent(), "not affine in the weights of the last layer last"),
        (_Bent(3000), "not affine in the weights of the last layer last"),
        (_Rescaled(), "2,560 weights; for more than 512, last-layer-ridge takes a model that predicts what"),
    ):
        model.initialise(TRAIN.problem, TRAIN, 0)
        with pytest.raises(UnsupportedError, match=message):
            fitted(LastLayerRidge().wrap(model), tmp_path, TRAIN, ridge=1e-4)


class _Misnamed(_Bent):
    def parts(self):
        return {"head": ["lost"]}


def test_a_layer_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = _Misnamed()
    model.initialise(TRAIN.problem, TRAIN, 0)
    with pytest.raises(UsageError, match="'lost'"):
        fitted(HeadOnly().wrap(model), tmp_path, TRAIN)


def test_parts_are_found_by_the_number_of_channels_or_by_order() -> None:
    parts: dict[str, OperatorModel] = {name: made(name) for name in MODELS}
    assert parts["fno"].parts() == {"embedding": ["lift"], "head": ["project"]}
    assert parts["unet"].parts() == {"embedding": ["down.0.0"], "head": ["project"]}
    assert parts["complex"].parts() == {"embedding": ["read"], "head": ["write"]}
    fixed = _Bent()
    fixed.initialise(TRAIN.problem, TRAIN, 0)
    assert fixed.parts() == {}
    assert "last" in FrozenBody().wrap(fixed).notes()["trained weights"]
