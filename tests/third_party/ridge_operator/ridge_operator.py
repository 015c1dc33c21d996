"""One linear map from the low Fourier modes of the inputs to those of the solution, in numpy.

Fields arrive as torch tensors; they are taken to numpy and back without importing torch, so that `pdefm list` stays
quick.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm.hookspecs import ModelEntry, hookimpl
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem


@hookimpl
def pdefm_models() -> list[ModelEntry]:
    """Return ``ridge-operator``."""
    return [ModelEntry("ridge-operator", "1", RidgeOperator, "one linear map between low Fourier modes; set modes")]


class RidgeOperator(OperatorModel):
    """Ridge regression towards the coefficients it already has: zero from scratch, pre-trained when fine-tuned.

    Args:
        modes: highest wavenumber kept along each axis.
    """

    def __init__(self, modes: int = 3) -> None:
        self.modes = modes

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that cannot carry the modes."""
        least = 2 * self.modes + 1
        return None if problem.grid.size >= least else f"needs at least {least} points a side, got {problem.grid.size}"

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Return as many ridge strengths as networks try learning rates."""
        return [{"ridge": ridge} for ridge in np.geomspace(1e-6, 1e-1, len(rates)).tolist()]

    @property
    def parameters(self) -> int:
        """Number of coefficients."""
        return self.weights.size

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Start from zero."""
        self.problem = problem
        modes = 2 * (2 * self.modes + 1) * (self.modes + 1)  # real and imaginary parts
        inputs = len(problem.input_fields) * modes + len(problem.constants) + 1
        self.weights = np.zeros((inputs, len(problem.outputs) * modes))

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Solve the regression directly."""
        start = time.perf_counter()
        inputs, outputs = train.batch(range(len(train)))
        x, y = self._features(inputs), self._modes([outputs[name] for name in self.problem.output_names])
        penalty = trial.hyperparameters["ridge"] * np.square(x).sum() / x.shape[1]
        self.weights = self.weights + np.linalg.solve(
            x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - x @ self.weights)
        )
        return FitReport(epochs=1, train_seconds=time.perf_counter() - start)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict the low modes; all others are zero."""
        like, m, names = inputs[problem.input_fields[0]], self.modes, self.problem.output_names
        n = like.shape[-1]
        kept = (self._features(inputs) @ self.weights).view(complex).reshape(len(like), len(names), 2 * m + 1, m + 1)
        spectrum = np.zeros((len(like), len(names), n, n // 2 + 1), complex)
        spectrum[..., np.arange(-m, m + 1), : m + 1] = kept
        fields = like.new_tensor(np.fft.irfft2(spectrum, s=(n, n), norm="forward"))
        return {name: fields[:, names.index(name)] for name in problem.output_names}

    def save(self, path: Path) -> None:
        """Write ``ridge.npz``."""
        about = json.dumps({"modes": self.modes, "problem": self.problem.describe()})
        np.savez(path / "ridge.npz", weights=self.weights, about=about)

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read ``ridge.npz``."""
        with np.load(path / "ridge.npz") as saved:
            about, weights = json.loads(saved["about"].item()), saved["weights"]
        self.problem, self.weights = Problem.parse(about["problem"]), weights

    def _features(self, inputs: Fields) -> np.ndarray:
        """Modes of the input fields, the constants and 1, (batch, features)."""
        known = self.problem.embed(inputs)
        modes = self._modes([known[name] for name in self.problem.input_fields])
        constants = [known[name].cpu().numpy()[:, None] for name in self.problem.constants]
        return np.concatenate([modes, *constants, np.ones((len(modes), 1))], axis=1)

    def _modes(self, fields: Sequence[Any]) -> np.ndarray:
        """Real and imaginary parts of the low modes of all ``fields``, (batch, 2 · fields · modes)."""
        m = self.modes
        planes = np.stack([field.cpu().numpy() for field in fields], axis=1, dtype=float)
        spectrum = np.fft.rfft2(planes, norm="forward")
        kept = np.ascontiguousarray(spectrum[..., np.arange(-m, m + 1), : m + 1])
        return kept.reshape(len(kept), -1).view(float)
