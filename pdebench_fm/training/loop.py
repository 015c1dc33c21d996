"""The training loop (paper, A.3): Adam, cosine decay to zero, the epoch with the lowest validation loss.

The loss is the squared error summed over the grid and the outputs, averaged over the batch, on unscaled targets. Data
order is a function of (seed, epoch), so that a killed fit continues as if nothing had happened. Nothing is dropped: a
last partial batch is a step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pdebench_fm.data.combine import CHUNK
from pdebench_fm.errors import RunError, UsageError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, Progress, Trial
from pdebench_fm.problem import Fields
from pdebench_fm.streams import Stream
from pdebench_fm.training.precision import training_precision
from pdebench_fm.training.resume import ResumeFile

Encode = Callable[[Examples, Fields], tuple[Tensor, Tensor]]
"""(examples, inputs) → normalised (fields, constants) of the model's problem."""


@dataclass
class _State:
    """Where a fit stands, apart from the tensors."""

    step: int = 0
    epoch_loss: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf
    train_seconds: float = 0.0
    data_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def fit_network(
    module: nn.Module,
    encode: Encode,
    outputs: Sequence[str],
    train: Examples,
    validation: Examples,
    budget: Budget,
    trial: Trial,
    context: FitContext,
) -> FitReport:
    """Train ``module`` in place and leave it with the weights of its best epoch.

    Args:
        module: called as ``module(fields, constants)``; returns (batch, outputs, n, n).
        encode: normalises inputs.
        outputs: names of the module's outputs, in order; every example must have them all.
        train: examples to fit, at least one.
        validation: examples that choose the epoch, at least one.
        budget: epochs or steps, and the batch size.
        trial: has the hyperparameter ``learning_rate``.
        context: workspace, device, precision, progress.
    """
    device = torch.device(context.device)
    module.to(device)
    batch_size = min(budget.batch_size, len(train))
    steps_per_epoch = -(-len(train) // batch_size)
    epochs, steps = _length(budget, steps_per_epoch)
    rate = trial.hyperparameters["learning_rate"]
    resume = ResumeFile(context.workspace / "resume.pt")
    state = _State()
    orders = Stream({"order": trial.seed, "examples": len(train)}, len(train))
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        training_precision(module, context.precision, device) as cast,
    ):
        optimiser = torch.optim.Adam(module.parameters(), lr=rate, fused=_fusable(device))
        kept = _tensors(module)
        best = [tensor.detach().clone() for tensor in kept]
        _restore(resume.read(), state, kept, best, optimiser)
        clock = time.perf_counter()
        while state.step < steps:
            epoch = state.step // steps_per_epoch
            order = np.argsort(orders.uniform([epoch])[0], kind="stable")
            module.train()
            for position in range(state.step % steps_per_epoch, min(steps_per_epoch, steps - epoch * steps_per_epoch)):
                if resume.due():  # never between an epoch's last step and its validation, which would then be skipped
                    _save(resume, state, kept, best, optimiser, clock)
                    clock = time.perf_counter()
                ids = order[position * batch_size : (position + 1) * batch_size]
                data_clock = time.perf_counter()
                inputs, wanted = train.batch(ids)
                fields, constants = encode(train, inputs)
                target = _stack(wanted, outputs)
                state.data_seconds += time.perf_counter() - data_clock
                for group in optimiser.param_groups:
                    group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * state.step / steps))
                optimiser.zero_grad(set_to_none=True)
                torch.manual_seed((trial.seed << 40) + state.step)  # dropout and the like: a function of (seed, step)
                with cast():
                    prediction = module(_as(fields, module), _as(constants, module))
                if prediction.shape != target.shape:
                    raise RunError(f"the network must return {tuple(target.shape)}, got {tuple(prediction.shape)}")
                loss = (prediction - target).square().sum() / len(ids)
                value = loss.item()
                if not math.isfinite(value):
                    return _diverged(state, f"training loss {value} at step {state.step + 1}", epoch, clock, resume)
                loss.backward()
                optimiser.step()
                state.step += 1
                state.epoch_loss += value * len(ids)
            validation_loss = _validate(module, encode, outputs, validation, state.best_loss)
            if math.isnan(validation_loss):
                return _diverged(state, f"validation loss is not finite in epoch {epoch + 1}", epoch, clock, resume)
            if validation_loss < state.best_loss:
                state.best_loss, state.best_epoch = validation_loss, epoch + 1
                _copy(kept, best)
            seen = min(len(train), (state.step - epoch * steps_per_epoch) * batch_size)
            state.history.append(
                {
                    "epoch": epoch + 1,
                    "train_loss": state.epoch_loss / seen,
                    # A pass is abandoned once it cannot be the best any more; its loss is then not known.
                    "validation_loss": validation_loss if math.isfinite(validation_loss) else None,
                }
            )
            state.epoch_loss = 0.0
            context.progress(Progress(epoch + 1, epochs, "epoch", state.best_loss))
        _copy(best, kept)
    state.train_seconds += time.perf_counter() - clock
    module.float().eval()
    return FitReport(
        epochs=epochs,
        steps=state.step,
        best_epoch=state.best_epoch,
        train_seconds=state.train_seconds,
        data_seconds=state.data_seconds,
        history=state.history,
    )


def _length(budget: Budget, steps_per_epoch: int) -> tuple[int, int]:
    """Epochs and steps of the whole fit."""
    if budget.steps is not None:
        return -(-budget.steps // steps_per_epoch), budget.steps
    assert budget.epochs is not None
    return budget.epochs, budget.epochs * steps_per_epoch


@torch.no_grad()
def _validate(module: nn.Module, encode: Encode, outputs: Sequence[str], validation: Examples, bound: float) -> float:
    """Mean squared-error sum per validation example; inf as soon as it is certain not to be below ``bound``.

    The loss is a sum of non-negative terms, so that a pass may stop once the terms so far exceed the best epoch's sum:
    which epoch is best stays exactly the same. NaN where a term is not finite.
    """
    module.eval()
    total = 0.0
    for start in range(0, len(validation), CHUNK):
        inputs, wanted = validation.batch(range(start, min(start + CHUNK, len(validation))))
        fields, constants = encode(validation, inputs)
        prediction = module(_as(fields, module), _as(constants, module))
        total += (prediction - _stack(wanted, outputs)).square().sum().item()
        if not math.isfinite(total):
            return math.nan
        if total / len(validation) >= bound:
            return math.inf
    return total / len(validation)


def _stack(fields: Fields, names: Sequence[str]) -> Tensor:
    """(batch, outputs, n, n), by name: examples may have their channels in another order."""
    missing = [name for name in names if name not in fields]
    if missing:
        raise UsageError(f"the examples lack the output {', '.join(missing)} that the model was made for")
    return torch.stack([fields[name] for name in names], dim=1)


def _as(values: Tensor, module: nn.Module) -> Tensor:
    """Give the values the dtype of the module's weights (float64 training of float32 examples)."""
    return values.to(next(module.parameters()).dtype)


def _fusable(device: torch.device) -> bool:
    """One fused Adam kernel, where the device has one."""
    return device.type in ("cpu", "cuda")


def _tensors(module: nn.Module) -> list[Tensor]:
    """What has to be kept to get the module back: parameters and persistent buffers, in their compute layout."""
    lasting = [
        buffer
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
        if name not in owner._non_persistent_buffers_set
    ]
    return [*(parameter.detach() for parameter in module.parameters()), *lasting]


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    torch._foreach_copy_(target, source)


def _save(
    resume: ResumeFile,
    state: _State,
    kept: list[Tensor],
    best: list[Tensor],
    optimiser: torch.optim.Optimizer,
    clock: float,
) -> None:
    state.train_seconds += time.perf_counter() - clock
    resume.write({"state": vars(state), "weights": kept, "best": best, "optimiser": optimiser.state_dict()})


def _restore(
    saved: dict[str, Any] | None,
    state: _State,
    kept: list[Tensor],
    best: list[Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    fits = saved is not None and [t.shape for t in saved["weights"]] == [t.shape for t in kept]
    if saved is None or not fits:
        return
    for name, value in saved["state"].items():
        setattr(state, name, value)
    _copy(saved["weights"], kept)
    _copy(saved["best"], best)
    optimiser.load_state_dict(saved["optimiser"])


def _diverged(state: _State, reason: str, epoch: int, clock: float, resume: ResumeFile) -> FitReport:
    resume.remove()
    return FitReport(
        status="diverged",
        reason=reason,
        epochs=epoch + 1,
        steps=state.step,
        best_epoch=state.best_epoch,
        train_seconds=state.train_seconds + time.perf_counter() - clock,
        data_seconds=state.data_seconds,
        history=state.history,
    )
