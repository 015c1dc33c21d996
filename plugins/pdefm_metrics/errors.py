"""Errors of the predicted fields against the true ones, all output channels together.

A zero reference field makes the relative error infinite or NaN, which is kept.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from pdebench_fm.interfaces import Metric, PDESystem
from pdebench_fm.problem import Fields, Problem


def _stacked(problem: Problem, fields: Fields) -> Tensor:
    """(batch, outputs, n, n) in float64, in which the sums over the grid are taken."""
    return torch.stack([fields[name] for name in problem.output_names], dim=1).double()


def _error_and_truth(problem: Problem, prediction: Fields, target: Fields) -> tuple[Tensor, Tensor]:
    """Both (batch, outputs · n · n)."""
    truth = _stacked(problem, target).flatten(1)
    return _stacked(problem, prediction).flatten(1) - truth, truth


class RelativeL2(Metric):
    """Mean over the examples of ‖u − u_ref‖₂ / ‖u_ref‖₂ (paper, A.3)."""

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        """Relative L2 error of each example, (batch,)."""
        error, truth = _error_and_truth(problem, prediction, target)
        return error.norm(dim=1) / truth.norm(dim=1)


class RelativeL1Median(Metric):
    """Median over the examples of ‖u − u_ref‖₁ / ‖u_ref‖₁: little moved by a few hard examples."""

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        """Relative L1 error of each example, (batch,)."""
        error, truth = _error_and_truth(problem, prediction, target)
        return error.abs().sum(dim=1) / truth.abs().sum(dim=1)

    def summarise(self, values: np.ndarray) -> np.ndarray:
        """Median over the last axis; NaN if any value is."""
        return np.asarray(np.median(values, axis=-1))


class RelativeH1(Metric):
    """Mean of ‖u − u_ref‖_H1 / ‖u_ref‖_H1, with ‖u‖²_H1 = ∫ u² + |∇u|².

    Derivatives are spectral on a periodic grid; elsewhere they are central differences, one-sided at the edges.
    """

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        """Relative H1 error of each example, (batch,)."""
        truth = _stacked(problem, target)
        error = _stacked(problem, prediction) - truth
        return (_h1_squared(problem, error) / _h1_squared(problem, truth)).sqrt()


class MaxError(Metric):
    """Mean of max|u − u_ref| / max|u_ref|."""

    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        """Largest error on the grid over the largest true value, of each example, (batch,)."""
        error, truth = _error_and_truth(problem, prediction, target)
        return error.abs().amax(dim=1) / truth.abs().amax(dim=1)


def _h1_squared(problem: Problem, values: Tensor) -> Tensor:
    """Mean over the grid of u² + |∇u|², (batch,)."""
    n, length = problem.grid.size, problem.grid.length
    if not problem.grid.periodic:
        slopes = torch.gradient(values, spacing=problem.grid.spacing, dim=(-2, -1))
        return sum((s.square() for s in slopes), start=values.square()).mean(dim=(-3, -2, -1))
    spectrum = torch.fft.rfft2(values, norm="ortho")
    ky = 2 * math.pi / length * torch.fft.fftfreq(n, 1 / n, dtype=values.dtype, device=values.device)
    kx = 2 * math.pi / length * torch.fft.rfftfreq(n, 1 / n, dtype=values.dtype, device=values.device)
    twice = torch.full_like(kx, 2.0)  # a column counts for its mirror image too, except the first and Nyquist
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    power = spectrum.real.square() + spectrum.imag.square()
    weighted = power * (1 + ky[:, None] ** 2 + kx**2) * twice
    return weighted.sum(dim=(-2, -1)).mean(dim=1) / n**2
