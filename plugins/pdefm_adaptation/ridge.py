"""Ridge regression of the last layer in closed form: the cheap baseline of every fine-tuning."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pdebench_fm.errors import UnsupportedError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.problem import Fields, Problem
from pdefm_adaptation.adapted import Adapted, NetworkAdaptation, network_of, part_of, training_only, weights_of

DIRECT = 512
"""Weights up to which the normal equations are solved directly; each costs a pass through the network."""
_RIDGES = (1e-4, 1e-2, 1e-6, 1.0, 1e-8)
_ROOM = 2**24
"""Numbers of the regressors that are held at once."""
_STEPS, _PROBES = 100, 4
"""Passes over the examples for the solution by conjugate gradients, and for the mean square of a regressor."""
_RESIDUAL = 1e-5
"""Relative residual at which conjugate gradients end."""
_AFFINE = 1e-2
"""Largest relative difference between the prediction and what an affine one would be."""


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
    """A network whose last layer is solved for.

    Args:
        inner: the model.
        direct: weights up to which the normal equations are solved directly.
    """

    def __init__(self, inner: OperatorModel, direct: int = DIRECT) -> None:
        super().__init__(inner)
        self.direct = direct

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
            UnsupportedError: the prediction is not affine in the weights of the layer, or these are many and the
                prediction is not what the network returns.
        """
        start, problem = time.perf_counter(), train.problem
        network_of(self.inner).to(context.device)
        weights = self._weights()
        solve = self._directly if _count(weights) <= self.direct else self._by_gradients
        change, passes = solve(train, budget, trial, context, weights)
        seconds = time.perf_counter() - start
        if not change.isfinite().all():
            return FitReport("diverged", "the normal equations cannot be solved", train_seconds=seconds)
        inputs, _ = train.batch(range(min(budget.batch_size, len(train))))
        with _moved(weights, 2 * change):
            far = self._predicted(problem, inputs)
        before = self._predicted(problem, inputs)
        _move(weights, change)
        middle = (before + far) / 2
        if (self._predicted(problem, inputs) - middle).norm() > _AFFINE * middle.norm():
            raise UnsupportedError(f"the prediction is not affine in the weights of the last layer {self._layer()}")
        return FitReport(epochs=passes, train_seconds=time.perf_counter() - start)

    def _directly(
        self, train: Examples, budget: Budget, trial: TrialSettings, context: FitContext, weights: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """Return the change, (weights,), by the normal equations, and the passes over the examples."""
        problem, count = train.problem, _count(weights)
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
        return change.masked_fill(failed.bool(), torch.nan), 1

    def _by_gradients(
        self, train: Examples, budget: Budget, trial: TrialSettings, context: FitContext, weights: Sequence[Tensor]
    ) -> tuple[Tensor, int]:
        """Return the change, (weights,), by conjugate gradients, and the passes over the examples.

        A gradient of the squared error is all that is known of the normal equations. Their trace, which the penalty
        needs, is estimated by Hutchinson's method.
        """
        now = torch.cat(list(weights)).double()
        scale = now.norm().clamp(min=1)
        at_rest = self._gradient(train, budget.batch_size, weights, torch.zeros_like(now))

        def curvature(direction: Tensor) -> Tensor:
            """Apply the Gram matrix; a step as long as the weights are keeps rounding small."""
            step = scale / direction.norm()
            return (self._gradient(train, budget.batch_size, weights, step * direction) - at_rest) / step

        generator = torch.Generator().manual_seed(trial.seed)
        signs = 2 * torch.randint(2, (_PROBES, len(at_rest)), generator=generator).to(at_rest) - 1
        squares = torch.stack([sign @ curvature(sign) for sign in signs]).mean() / len(at_rest)
        penalty = trial.hyperparameters["ridge"] * squares
        change, residual = torch.zeros_like(at_rest), -at_rest
        direction, size = residual, residual @ residual
        enough, passes = _RESIDUAL**2 * size, 1 + _PROBES
        while size > enough and passes < _STEPS:
            image = curvature(direction) + penalty * direction
            bend = direction @ image
            if bend <= 0:  # by rounding: no direction is left
                break
            length = size / bend
            change, residual = change + length * direction, residual - length * image
            before, size = size, residual @ residual
            direction = residual + size / before * direction
            passes += 1
            context.progress(Progress(passes, _STEPS, unit="pass"))
        return change.masked_fill(~size.isfinite(), torch.nan), passes

    def _gradient(self, train: Examples, size: int, weights: Sequence[Tensor], step: Tensor) -> Tensor:
        """Return the gradient of half the squared error, (weights,), after a step of the weights."""
        network, problem, total = network_of(self.inner), train.problem, torch.zeros_like(step)
        parameters = weights_of(self.inner, [self._layer()])
        with _moved(weights, step), training_only(network, parameters):
            for inputs, outputs in train.batches(size):
                with _differentiable(network) as returned:
                    predicted = self._predicted(problem, inputs)
                own = returned[-1]
                if own.numel() != len(predicted) or not own.detach().reshape(-1).double().allclose(
                    predicted, equal_nan=True
                ):
                    raise UnsupportedError(
                        f"the last layer {self._layer()} has {len(step):,} weights; for more than {self.direct:,}, "
                        "last-layer-ridge takes a model that predicts what its network returns"
                    )
                missed = (own.detach().reshape(-1).double() - _stacked(problem, outputs)).reshape(own.shape).to(own)
                slopes = torch.autograd.grad(own, parameters, missed, allow_unused=True, materialize_grads=True)
                total += torch.cat([_flat(slope.resolve_conj().contiguous()) for slope in slopes])
        return total

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


def _flat(weight: Tensor) -> Tensor:
    """Return the real numbers of a weight, (numbers,), which share its memory."""
    detached: Any = weight.detach()
    return (torch.view_as_real(detached) if detached.is_complex() else detached).view(-1)


def _count(weights: Sequence[Tensor]) -> int:
    return sum(len(weight) for weight in weights)


def _move(weights: Sequence[Tensor], step: Tensor) -> None:
    for weight, own in zip(weights, torch.split(step, [len(weight) for weight in weights]), strict=True):
        weight += own


@contextmanager
def _moved(weights: Sequence[Tensor], step: Tensor) -> Iterator[None]:
    """Move the weights within the block."""
    kept = [weight.clone() for weight in weights]
    _move(weights, step)
    try:
        yield
    finally:
        for weight, own in zip(weights, kept, strict=True):
            weight.copy_(own)


@contextmanager
def _differentiable(network: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, list what the network returns, with its gradient, though predictions are made without one."""
    returned: list[Tensor] = []

    def begin(module: nn.Module, inputs: Any) -> None:
        torch.set_grad_enabled(True)

    def end(module: nn.Module, inputs: Any, output: Tensor) -> None:
        returned.append(output)
        torch.set_grad_enabled(False)

    with torch.no_grad():
        hooks = [network.register_forward_pre_hook(begin), network.register_forward_hook(end)]
        try:
            yield returned
        finally:
            for hook in hooks:
                hook.remove()


def _stacked(problem: Problem, fields: Fields) -> Tensor:
    """Join all outputs of all examples, (values,), in float64."""
    return torch.stack([fields[name] for name in problem.output_names], dim=1).double().reshape(-1)
