"""Protocols: head-only, low-rank adapters (LoRA, arXiv 2106.09685), and prediction in context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pdebench_fm.hookspecs import ProtocolEntry, hookimpl
from pdebench_fm.interfaces import (
    Budget,
    Examples,
    FitContext,
    FitReport,
    OperatorModel,
    TransferProtocol,
    TrialSettings,
)
from pdebench_fm.problem import Fields, Problem
from tests.third_party.doors.wrapped import Wrapped


@hookimpl
def pdefm_protocols() -> list[ProtocolEntry]:
    here = "tests.third_party.doors.adapters"
    return [
        ProtocolEntry("head-only", "1", f"{here}:HeadOnly", "fit the last layer"),
        ProtocolEntry("lora", "1", f"{here}:LoRA", "low-rank adapters", arguments={"rank": 4}),
        ProtocolEntry("in-context", "1", f"{here}:InContext", "remember examples, fit nothing"),
    ]


class _FromPretraining(TransferProtocol):
    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream


class _OfNetworks(_FromPretraining):
    def refuses(self, model: OperatorModel) -> str | None:
        return None if model.has_network else "it trains a part of a network, and the model has none"


class HeadOnly(_OfNetworks):
    """Freeze all but the last module."""

    def wrap(self, model: OperatorModel) -> OperatorModel:
        return _Head(model)


class _Head(Wrapped):
    def prepare(self) -> None:
        assert self.network is not None
        *body, _ = self.network.children()
        for layer in body:
            layer.requires_grad_(False)


class LoRA(_OfNetworks):
    """Train a product of two thin matrices beside each convolution and linear layer."""

    def __init__(self, rank: int = 8) -> None:
        self.rank = rank

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{"learning_rate": 10 * rate} for rate in rates]  # adapters take larger steps

    def wrap(self, model: OperatorModel) -> OperatorModel:
        return _Adapted(model, self.rank)


class _LowRank(nn.Module):
    """weight ↦ weight + up · down; up begins at zero."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


class _Adapted(Wrapped):
    def __init__(self, inner: OperatorModel, rank: int) -> None:
        super().__init__(inner)
        self.rank = rank

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        torch.manual_seed(trial.seed)
        assert self.network is not None
        layers = [m for m in self.network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
        self.network.requires_grad_(False)
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", _LowRank(layer.weight, self.rank))
        report = self.inner.fit(train, validation, budget, trial, context)
        for layer in layers:  # the adapted weights are saved like any others
            parametrize.remove_parametrizations(layer, "weight")
        return report


class InContext(_FromPretraining):
    """Add to the prediction what it missed at the nearest training inputs (after arXiv 2402.15734)."""

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return [{"neighbours": 2}]

    def wrap(self, model: OperatorModel) -> OperatorModel:
        return _Remembers(model)


class _Remembers(Wrapped):
    memory: dict[str, Tensor]

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        inputs, outputs = train.batch(range(len(train)))
        guess = self.inner.predict(train.problem, inputs)
        self.memory = {f"input {name}": value for name, value in inputs.items()}
        self.memory |= {f"missed {name}": value - guess[name] for name, value in outputs.items()}
        return FitReport()

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        distance = sum(
            (value[:, None] - self.memory[f"input {name}"].to(value.device)).flatten(2).square().sum(dim=2)
            if value.ndim > 1
            else (value[:, None] - self.memory[f"input {name}"].to(value.device)).square()
            for name, value in inputs.items()
        )
        nearest = distance.topk(2, largest=False).indices
        guess = self.inner.predict(problem, inputs)
        return {
            name: value + self.memory[f"missed {name}"].to(value.device)[nearest].mean(dim=1)
            for name, value in guess.items()
        }

    def added(self) -> dict[str, Tensor]:
        return {name: value.contiguous() for name, value in self.memory.items()}

    def restore(self, added: dict[str, Tensor]) -> None:
        self.memory = added

    def load(self, path: Path, device: str = "cpu") -> None:
        super().load(path, device)
