"""Small networks that have what protocols trip over, and a fit of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from pdebench_fm.interfaces import Budget, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel, planes
from tests.plugins.baselines.synthetic import Synthetic


class Complex(nn.Module):
    """Batch normalisation, dropout, a complex weight, and one weight that two layers share."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.1)
        self.modes = nn.Parameter(torch.randn(6, 6, 3, 3, dtype=torch.complex64) / 6)
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.write = weight_norm(nn.Conv2d(6, outputs, 1))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        h = self.drop(self.norm(self.read(planes(fields, constants))))
        n = h.shape[-1]
        kept = torch.einsum("bixy,ioxy->boxy", torch.fft.rfft2(h, norm="forward")[..., :3, :3], self.modes)
        h = h + torch.fft.irfft2(kept, s=(n, n), norm="forward")
        h = self.two(torch.tanh(self.one(h.movedim(1, -1)))).movedim(-1, 1)
        return self.write(h)


class ComplexModel(NetworkModel):
    def build(self, problem: Problem) -> nn.Module:
        return Complex(len(problem.inputs), len(problem.outputs))


def fitted(model: OperatorModel, folder: Path, train: Synthetic, steps: int = 4, **hyperparameters: float) -> FitReport:
    trial = TrialSettings(hyperparameters or {"learning_rate": 1e-2}, 3)
    return model.fit(train, Synthetic(4, 16, seed=9), Budget(None, steps, 4), trial, FitContext(folder))


def state(model: OperatorModel) -> dict[str, Tensor]:
    assert model.network is not None
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not before[name].equal(after[name])}
