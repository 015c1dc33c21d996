"""Small example sets made on the spot: a screened Poisson problem, (κ|k|² + 1) û = f̂, on a periodic grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pdebench_fm.interfaces import Budget, Examples, FitContext, TrialSettings
from pdebench_fm.problem import Channel, Fields, Grid, Problem


def screened_poisson(n: int, constant: bool = True) -> Problem:
    inputs = (Channel("source"), Channel("kappa", "constant")) if constant else (Channel("source"),)
    return Problem(inputs, (Channel("solution"),), Grid(n))


class Synthetic(Examples):
    """Random sources of wavenumbers up to 3 and their solutions; ``kappa`` in [low, high]."""

    def __init__(self, count: int, n: int, seed: int = 0, low: float = 0.1, high: float = 0.1, constant: bool = True):
        self._problem = screened_poisson(n, constant)
        random = np.random.default_rng(seed)
        k = np.fft.fftfreq(n, 1 / n)
        kx = np.arange(n // 2 + 1)
        square = k[:, None] ** 2 + kx**2
        kept = (np.abs(k)[:, None] <= 3) & (kx <= 3)
        # Drawn on one fixed grid, so that the functions do not depend on n.
        noise = np.fft.rfft2(random.standard_normal((count, 8, 8)), norm="forward")[..., :4]
        spectrum = np.zeros((count, n, n // 2 + 1), complex)
        spectrum[:, :4, :4], spectrum[:, -3:, :4] = noise[:, :4], noise[:, -3:]
        spectrum *= kept
        kappa = random.uniform(low, high, count)
        solved = spectrum / (kappa[:, None, None] * square + 1)
        self.inputs: dict[str, torch.Tensor] = {"source": self._field(spectrum, n)}
        if constant:
            self.inputs["kappa"] = torch.as_tensor(kappa, dtype=torch.float32)
        self.outputs = {"solution": self._field(solved, n)}

    @staticmethod
    def _field(spectrum: np.ndarray, n: int) -> torch.Tensor:
        return torch.as_tensor(np.fft.irfft2(spectrum, s=(n, n), norm="forward"), dtype=torch.float32)

    @property
    def problem(self) -> Problem:
        return self._problem

    def __len__(self) -> int:
        return len(self.outputs["solution"])

    def batch(self, ids: Sequence[int]) -> tuple[Fields, Fields]:
        chosen = list(ids)
        return {k: v[chosen] for k, v in self.inputs.items()}, {k: v[chosen] for k, v in self.outputs.items()}


def budget(epochs: int = 1) -> Budget:
    return Budget(epochs=epochs, steps=None, batch_size=8)


def fit(model, train, path, epochs: int = 1, **hyperparameters: float):
    return model.fit(train, train, budget(epochs), TrialSettings(hyperparameters, 0), FitContext(path))


def error(model, examples) -> float:
    """Relative L2 error over all examples together."""
    inputs, outputs = examples.batch(range(len(examples)))
    predicted = model.predict(examples.problem, inputs)["solution"]
    return float((predicted - outputs["solution"]).norm() / outputs["solution"].norm())
