"""A linear map for each Fourier mode, with coefficients polynomial in the constants.

For an equation with constant coefficients on a periodic square the exact solution operator is diagonal in Fourier
space, û(k) = f̂(k) / D(k; constants). This model knows that much and nothing else:

    û(k) = Σ_j w_j(k) f̂(k) p_j(constants),      p_j: the monomials of degree ≤ ``degree``.

Ridge regression fits each mode towards the coefficients it already has: zero from scratch, the pre-trained ones when
fine-tuned. It takes seconds and no gradient steps.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pdebench_fm.errors import DataFileError, SettingError, UnsupportedError, UsageError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.training import InputNormalisation
from pdefm_baselines import files
from pdefm_baselines.modes import coefficients, evaluate

BATCH = 128
"""Examples held at once while the normal equations are accumulated."""

_RIDGES = (1e-4, 1e-2, 1e-6, 1.0, 1e-8)


class _About(files.About):
    arguments: dict[Literal["modes", "degree"], int]
    problem: dict[str, Any]
    normalisation: dict[str, Any]


class ModeRegression(OperatorModel):
    """Ridge regression per Fourier mode.

    Args:
        modes: highest wavenumber kept along each axis; a grid needs more than twice as many points a side.
        degree: degree of the polynomial in the constants, each divided by its median magnitude over the first training
            set. (The example-wise scaling of homogeneous problems is left out: it would make a linear map nonlinear.)

    Raises:
        SettingError: ``modes`` or ``degree`` is negative.
    """

    def __init__(self, modes: int = 15, degree: int = 2) -> None:
        for name, value in (("modes", modes), ("degree", degree)):
            if value < 0:
                raise SettingError(name, f"must not be negative, got {value}")
        self.modes = modes
        self.degree = degree
        self._problem: Problem | None = None
        self._normalisation = InputNormalisation(False, 1.0, {})
        self._weights = np.zeros((0, 0, 0), dtype=complex)  # (modes, features, outputs)

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that is not periodic, or too coarse for the modes."""
        if not problem.grid.periodic:
            return "mode regression needs a periodic grid"
        n, least = problem.grid.size, 2 * self.modes + 1
        if n < least:
            return f"wavenumbers up to {self.modes} need a grid of at least {least} points a side, got {n}"
        return None

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Return as many ridge strengths as a network may try learning rates (at most five), the most useful first."""
        return [{"ridge": ridge} for ridge in _RIDGES[: len(rates)]]

    @property
    def parameters(self) -> int:
        """Number of coefficients, real and imaginary parts counted apart."""
        return 2 * self._weights.size

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Start from zero; nothing is random."""
        self._problem = problem
        self._normalisation = dataclasses.replace(InputNormalisation.fit(problem, train), homogeneous=False)
        self._weights = np.zeros(self._shape(problem), dtype=complex)

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Solve the regression once, directly.

        The penalty on ‖w − w₀‖² is ``ridge`` times the mean square of the mode's features, so its meaning depends
        neither on the size of the training set nor on the mode.
        """
        _check_outputs(self._ready(), train)
        start = time.perf_counter()
        count, features, outputs = self._weights.shape
        gram = np.zeros((count, features, features), dtype=complex)
        moment = np.zeros((count, features, outputs), dtype=complex)
        data_seconds = 0.0
        for first in range(0, len(train), BATCH):
            before = time.perf_counter()
            inputs, targets = train.batch(range(first, min(first + BATCH, len(train))))
            data_seconds += time.perf_counter() - before
            design = self._design(inputs)
            wanted = self._spectra(torch.stack([targets[name] for name in self._ready().output_names], dim=1))
            adjoint = design.conj().swapaxes(1, 2)
            gram += adjoint @ design
            moment += adjoint @ (wanted - design @ self._weights)  # what the present coefficients leave unexplained
            context.progress(Progress(min(first + BATCH, len(train)), len(train), unit="example"))
        scale = np.trace(gram, axis1=1, axis2=2).real / features
        penalty = trial.hyperparameters["ridge"] * scale
        penalty = np.where(scale > 0, penalty, 1.0)  # a mode that never occurs keeps its coefficients
        status = ""
        try:
            change = np.linalg.solve(gram + penalty[:, None, None] * np.eye(features), moment)
            if not np.isfinite(change).all():
                status = "the coefficients are not finite"
        except np.linalg.LinAlgError as error:
            status = f"the normal equations cannot be solved: {error}"
        seconds = time.perf_counter() - start
        if status:
            return FitReport("diverged", status, train_seconds=seconds, data_seconds=data_seconds)
        self._weights = self._weights + change
        return FitReport(epochs=1, train_seconds=seconds, data_seconds=data_seconds)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict on any grid with more than 2 · modes points a side; wavenumbers above ``modes`` are zero."""
        like = inputs[problem.input_fields[0]]
        n = like.shape[-1]
        predicted = (self._design(inputs) @ self._weights).transpose(1, 2, 0)
        fields = evaluate(predicted.reshape(*predicted.shape[:2], 2 * self.modes + 1, self.modes + 1), n)
        names = self._ready().output_names
        return {
            name: torch.as_tensor(fields[:, names.index(name)], dtype=torch.float32, device=like.device)
            for name in problem.output_names
        }

    def save(self, path: Path) -> None:
        """Write the coefficients, and the arguments, problem and normalisation."""
        about = {
            "arguments": {"modes": self.modes, "degree": self.degree},
            "problem": self._ready().describe(),
            "normalisation": self._normalisation.state(),
        }
        files.write(path, about, {"weights": self._weights})

    def load(self, path: Path, device: str = "cpu") -> None:
        """Read back what `save` wrote; it computes on the CPU, whatever ``device``."""
        about, arrays = files.read(path, _About)
        for name, theirs in about.arguments.items():
            if theirs != getattr(self, name):
                raise DataFileError(f"{path}: made with {name}={theirs}, this model has {name}={getattr(self, name)}")
        try:
            self._problem = Problem.parse(about.problem)
            self._normalisation = InputNormalisation.from_state(about.normalisation)
        except UsageError as error:
            raise DataFileError(f"{path}: {error}") from None
        weights = arrays.get("weights", np.zeros(0))
        if weights.dtype != complex or weights.shape != self._shape(self._problem):
            wanted = f"complex {self._shape(self._problem)}"
            raise DataFileError(f"{path}: 'weights' must be {wanted}, got {weights.dtype} {weights.shape}")
        self._weights = weights

    def _ready(self) -> Problem:
        if self._problem is None:
            raise RuntimeError("ModeRegression has no coefficients yet: call initialise or load first")
        return self._problem

    def _shape(self, problem: Problem) -> tuple[int, int, int]:
        """Shape of the coefficients: modes, features, outputs."""
        features = len(problem.input_fields) * len(self._exponents(problem))
        return (2 * self.modes + 1) * (self.modes + 1), features, len(problem.outputs)

    def _exponents(self, problem: Problem) -> list[tuple[int, ...]]:
        """Monomials of degree ≤ ``degree``, each a tuple of the constants (by index) to be multiplied; () is 1."""
        constants = range(len(problem.constants))
        return [
            factors
            for degree in range(self.degree + 1)
            for factors in itertools.combinations_with_replacement(constants, degree)
        ]

    def _design(self, inputs: Fields) -> np.ndarray:
        """Return the regressors f̂(k) p(constants) of a batch, (modes, batch, features)."""
        problem = self._ready()
        fields, constants = self._normalisation(problem, problem.embed(inputs))
        spectra = self._spectra(fields)
        values = constants.double().cpu().numpy()
        columns = [
            math.prod((values[:, i] for i in factors), start=np.ones(len(values)))
            for factors in self._exponents(problem)
        ]
        monomials = np.stack(columns, axis=1)
        design: np.ndarray = spectra[:, :, :, None] * monomials[:, None, :]
        return design.reshape(*spectra.shape[:2], -1)

    def _spectra(self, fields: torch.Tensor) -> np.ndarray:
        """(batch, channels, n, n) → (modes, batch, channels), in complex128."""
        kept = coefficients(fields.double().cpu().numpy(), self.modes)
        return np.ascontiguousarray(kept.reshape(*kept.shape[:2], -1).transpose(2, 0, 1))


def _check_outputs(problem: Problem, train: Examples) -> None:
    """Check that every example has every output: all share one Gram matrix.

    Raises:
        UnsupportedError: a part of the examples lacks an output.
    """
    for part in train.components:
        lacking = [name for name in problem.output_names if name not in part.problem.output_names]
        if lacking:
            raise UnsupportedError(f"mode-regression needs every output in every example; some lack {lacking[0]}")
