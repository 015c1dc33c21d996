"""Ridge regression of the last layer in closed form: the cheap baseline of every fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pdebench_fm.errors import UnsupportedError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdefm_adaptation.adapted import Adapted, NetworkAdaptation, network_of, part_of, weights_of

MOST = 2048
"""Weights that the last layer may have; each costs a pass through the network."""
_RIDGES = (1e-4, 1e-2, 1e-6, 1.0, 1e-8)
_ROOM = 2**24
"""Numbers of the regressors that are held at once."""
_AFFINE = 1e-2
"""Largest relative difference between the prediction and what the regression expects it to be."""


class LastLayerRidge(NetworkAdaptation):
    """Solve for the weights of the last layer, drawn towards those of pre-training.

    The prediction must be affine in them. Then the squared error, which training would minimise, has its minimum in
    closed form.
    """

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Return as many ridge strengths as a fine-tuning may try learning rates, at most five."""
        return [{"ridge": ridge} for ridge in _RIDGES[: len(rates)]]

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Replace the fit."""
        return Regressed(model)


class Regressed(Adapted):
    """A network whose last layer is solved for."""

    def notes(self) -> Mapping[str, str]:
        """Say which layer it is."""
        weights = sum(weight.numel() for weight in self._weights())
        trained = f"{weights:,} of {self.parameters:,}: {self._layer()}"
        return {**self.inner.notes(), "trained weights": trained}

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Solve the regression once.

        The penalty on the squared change of the weights is ``ridge`` times the mean square of a regressor, summed over
        the examples, so it means the same at any number of examples and at any grid.

        Raises:
            UnsupportedError: the layer has too many weights, or the prediction is not affine in them.
        """
        start, problem = time.perf_counter(), train.problem
        network_of(self.inner).to(context.device)
        weights = self._weights()
        count = sum(weight.numel() for weight in weights)
        if count > MOST:
            raise UnsupportedError(
                f"the last layer {self._layer()} has {count:,} weights; last-layer-ridge takes {MOST:,} at most"
            )
        size = max(1, _ROOM // (problem.grid.size**2 * len(problem.outputs) * count))
        gram = torch.zeros(count, count, dtype=torch.float64, device=context.device)
        moment = torch.zeros(count, dtype=torch.float64, device=context.device)
        for number, (inputs, outputs) in enumerate(train.batches(size)):
            expected = self._predicted(problem, inputs)
            regressors = self._regressors(problem, inputs, expected, weights)
            gram += regressors.T @ regressors
            moment += regressors.T @ (_stacked(problem, outputs) - expected)
            context.progress(Progress(min((number + 1) * size, len(train)), len(train), unit="example"))
        penalty = trial.hyperparameters["ridge"] * gram.trace() / count
        change, failed = torch.linalg.solve_ex(gram + penalty * torch.eye(count, device=gram.device), moment)
        seconds = time.perf_counter() - start
        if failed.item() or not change.isfinite().all():
            return FitReport("diverged", "the normal equations cannot be solved", train_seconds=seconds)
        inputs, _ = train.batch(range(min(size, len(train))))
        before = self._predicted(problem, inputs)
        step = self._regressors(problem, inputs, before, weights) @ change
        for weight, own in zip(weights, torch.split(change, [weight.numel() for weight in weights]), strict=True):
            weight += own
        missed = (self._predicted(problem, inputs) - before - step).norm()
        if missed > _AFFINE * (before + step).norm():
            raise UnsupportedError(f"the prediction is not affine in the weights of the last layer {self._layer()}")
        return FitReport(epochs=1, train_seconds=time.perf_counter() - start)

    def _regressors(self, problem: Problem, inputs: Fields, expected: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """Return what each weight adds to the prediction when it grows by 1, (values, weights), in float64."""
        columns = []
        for weight in weights:
            for i in range(len(weight)):
                kept = weight[i].clone()
                weight[i] += 1
                columns.append(self._predicted(problem, inputs) - expected)
                weight[i] = kept
        return torch.stack(columns, dim=1)

    def _predicted(self, problem: Problem, inputs: Fields) -> Tensor:
        return _stacked(problem, self.inner.predict(problem, inputs))

    def _layer(self) -> str:
        return part_of(self.inner, "head")[-1]

    def _weights(self) -> list[Tensor]:
        return [_flat(weight) for weight in weights_of(self.inner, [self._layer()])]


def _flat(weight: nn.Parameter) -> Tensor:
    """Return the real numbers of a weight, (numbers,), which share its memory."""
    detached: Any = weight.detach()
    return (torch.view_as_real(detached) if detached.is_complex() else detached).view(-1)


def _stacked(problem: Problem, fields: Fields) -> Tensor:
    """Join all outputs of all examples, (values,), in float64."""
    return torch.stack([fields[name] for name in problem.output_names], dim=1).double().reshape(-1)
