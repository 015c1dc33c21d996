"""Predictors that ignore their input, to compare any score with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from pdebench_fm.errors import DataFileError, UnsupportedError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdefm_baselines import files
from pdefm_baselines.modes import coefficients, evaluate

BATCH = 256
"""Examples summed at once."""


class _AboutZero(files.About):
    model: Literal["zero"]


class _AboutMean(files.About):
    model: Literal["mean"]
    outputs: list[str]


class Zero(OperatorModel):
    """Predicts zero: a relative L2 error of 1 by definition."""

    learns_from_pretraining: ClassVar[bool] = False
    warm_starts: ClassVar[bool] = False
    ignores_inputs: ClassVar[bool] = True

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """There is nothing to search: one trial."""
        return [{}]

    @property
    def parameters(self) -> int:
        """No fitted numbers."""
        return 0

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Nothing to do."""

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Nothing to do."""
        return FitReport()

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Return zeros."""
        return {name: torch.zeros_like(inputs[problem.input_fields[0]]) for name in problem.output_names}

    def save(self, path: Path) -> None:
        """Write a file that names the model."""
        files.write(path, {"model": "zero"}, {})

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` wrote."""
        files.read(path, _AboutZero)


class Mean(OperatorModel):
    """Predicts the mean training solution; on another grid, that field resampled by its Fourier series."""

    warm_starts: ClassVar[bool] = False
    ignores_inputs: ClassVar[bool] = True

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._mean = np.zeros((0, 0, 0))  # (outputs, n, n), float64

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """There is nothing to search: one trial."""
        return [{}]

    @property
    def parameters(self) -> int:
        """Number of values of the mean field."""
        return self._mean.size

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Start from zero."""
        self._names = problem.output_names
        self._mean = np.zeros((len(self._names), problem.grid.size, problem.grid.size))

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Average the training solutions, in float64; each output over the examples that have it."""
        start = time.perf_counter()
        having = {
            name: sum(len(part) for part in train.components if name in part.problem.output_names)
            for name in self._names
        }
        total = np.zeros_like(self._mean)
        for _, targets in train.batches(BATCH):
            for number, name in enumerate(self._names):
                fields = targets[name].double() if name in targets else torch.zeros(1, *total.shape[1:])
                if having[name] < len(train):  # an output that a part of a mixture lacks is NaN
                    fields = fields[~fields.isnan().flatten(1).all(dim=1)]
                total[number] += fields.sum(dim=0).cpu().numpy()
        seconds = time.perf_counter() - start
        if not np.isfinite(total).all():
            return FitReport("diverged", "the mean is not finite", train_seconds=seconds)
        self._mean = total / np.maximum([having[name] for name in self._names], 1)[:, None, None]
        return FitReport(epochs=1, train_seconds=seconds)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Return the mean for every example.

        Raises:
            UnsupportedError: the grid differs from that of training and is not periodic.
        """
        like = inputs[problem.input_fields[0]]
        n = like.shape[-1]
        mean = self._mean
        if n != mean.shape[-1]:
            if not problem.grid.periodic:
                raise UnsupportedError(
                    f"the mean of {mean.shape[-1]} points a side cannot be resampled to {n}: not periodic"
                )
            mean = evaluate(coefficients(mean, (min(n, mean.shape[-1]) - 1) // 2), n)
        fields = torch.as_tensor(mean, dtype=torch.float32, device=like.device)
        return {name: fields[self._names.index(name)].expand_as(like).clone() for name in problem.output_names}

    def save(self, path: Path) -> None:
        """Write the mean field."""
        files.write(path, {"model": "mean", "outputs": list(self._names)}, {"mean": self._mean})

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` wrote."""
        about, arrays = files.read(path, _AboutMean)
        mean = arrays.get("mean", np.zeros(0))
        if mean.dtype != np.float64 or mean.ndim != 3 or len(mean) != len(about.outputs):
            raise DataFileError(f"{path}: 'mean' must be float64 (outputs, n, n), got {mean.dtype} {mean.shape}")
        self._names, self._mean = tuple(about.outputs), mean
