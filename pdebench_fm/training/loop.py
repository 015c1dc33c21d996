"""The training loop (paper, A.3): Adam, cosine decay to zero, the epoch with the lowest validation loss.

The loss is the squared error summed over the grid and the outputs, averaged over the batch, on unscaled targets. Data
order is a function of (seed, epoch), so that a killed fit continues as if nothing had happened. Nothing is dropped: a
last partial batch is a step.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from pdebench_fm.errors import RunError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, Progress, TrialSettings
from pdebench_fm.streams import Stream
from pdebench_fm.training.adam import Adam
from pdebench_fm.training.feed import Batch, Encode, Feed
from pdebench_fm.training.micro_batches import micro_batch
from pdebench_fm.training.precision import Cast, single_precision, training_precision
from pdebench_fm.training.race import DivergedError, EpochRace, lasting_buffers, lasting_tensors
from pdebench_fm.training.ranks import Ranks
from pdebench_fm.training.resume import ResumeFile

_SAVED = {"fit", "state", "weights", "race", "moments"}


@dataclass
class _State:
    """Where a fit stands, apart from the tensors."""

    step: int = 0
    epoch_loss: float = 0.0
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
    trial: TrialSettings,
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
        context: workspace, device, ranks, precision, progress.
    """
    device = torch.device(context.device)
    module.to(device)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        training_precision(module, context.precision, device) as cast,
    ):
        report = _Fit(module, encode, outputs, train, validation, budget, trial, context, cast).run()
    single_precision(module).eval()
    return report


class _Fit:
    """One fit of one network."""

    def __init__(
        self,
        module: nn.Module,
        encode: Encode,
        outputs: Sequence[str],
        train: Examples,
        validation: Examples,
        budget: Budget,
        trial: TrialSettings,
        context: FitContext,
        cast: Cast,
    ) -> None:
        self._module = module
        self._cast = cast
        self._context = context
        self._ranks = Ranks(context.rank, context.ranks)
        self._clock = time.perf_counter()
        self._state = _State()
        self._batch_size = min(budget.batch_size, len(train))
        self._steps_per_epoch = -(-len(train) // self._batch_size)
        self._epochs, self._steps = _length(budget, self._steps_per_epoch)
        weights = (p.dtype.to_real() for p in module.parameters() if p.is_floating_point() or p.is_complex())
        dtype = next(weights, torch.get_default_dtype())
        self._dtype = dtype
        self._train = Feed(train, encode, outputs, dtype, self._epochs)
        self._validation = Feed(validation, encode, outputs, dtype, self._epochs)
        self._state.data_seconds = time.perf_counter() - self._clock
        self._rate = trial.hyperparameters["learning_rate"]
        self._seed = trial.seed
        # `torch.manual_seed` writes down for three kinds of device that are not there from where it was called.
        on_cpu = torch.device(context.device).type == "cpu"
        self._seed_with = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
        self._orders = Stream({"order": trial.seed, "examples": len(train)}, len(train))
        self._adam = Adam(module.parameters(), _fusable(module, context.device))
        self._race = EpochRace(module, self._validation, self._ranks)
        self._resume = ResumeFile(context.next_resume_file())
        self._micro_batch = micro_batch(module, self._train.batch(np.arange(1))) if self._batch_size > 1 else 1

    @cached_property
    def _identity(self) -> str:
        """What tells this fit from another one with the same workspace; asked for before the first step."""
        digest = hashlib.sha256(
            repr((self._steps, self._batch_size, self._rate, self._seed, len(self._train))).encode()
        )
        first = self._train.batch(np.arange(1))
        for tensor in (*lasting_tensors(self._module), first.fields, first.constants, first.target):
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def run(self) -> FitReport:
        _ = self._identity  # of the weights it begins with
        self._restore()
        try:
            while self._state.step < self._steps:
                self._epoch(self._state.step // self._steps_per_epoch)
            self._note(self._race.judge())
            self._race.take_best()
        except DivergedError as error:
            self._resume.remove()
            return self._report("diverged", str(error))
        return self._report()

    def _epoch(self, number: int) -> None:
        """Train one epoch, or what is left of it, and enter it for the choice of the best."""
        state, start = self._state, number * self._steps_per_epoch
        order = np.argsort(self._orders.uniform([number])[0], kind="stable")
        self._module.train()
        while state.step < min(start + self._steps_per_epoch, self._steps):
            if self._ranks.leads and self._resume.due():  # never between an epoch's last step and its entering
                self._save()
            position = (state.step - start) * self._batch_size
            ids = order[position : position + self._batch_size]
            value = self._step(ids)
            state.step += 1
            state.epoch_loss += value * len(ids)
        seen = min(len(self._train), (state.step - start) * self._batch_size)
        # A loss that is never evaluated in full, because the epoch is seen to lose before, stays None.
        state.history.append(
            {"epoch": number + 1, "train_loss": state.epoch_loss / seen, "validation_loss": None},
        )
        state.epoch_loss = 0.0
        self._ranks.take_last(lasting_buffers(self._module))  # running statistics of each rank's own examples
        self._note(self._race.enter(number + 1))
        self._context.progress(Progress(number + 1, self._epochs, "epoch", self._race.best_loss))

    def _step(self, ids: np.ndarray) -> float:
        """Take one step of Adam on the examples ``ids``; return the loss before it."""
        state = self._state
        clock = time.perf_counter()
        start, stop = self._ranks.share(ids)
        batch = self._train.batch(ids[start:stop]) if stop > start else None
        state.data_seconds += time.perf_counter() - clock
        self._module.zero_grad()
        # Dropout and the like: a function of (seed, step), and of the rank, which has other examples.
        self._seed_with(_mixed(self._seed, self._ranks.rank, state.step))
        size = self._micro_batch
        parts = [] if batch is None else [batch.part(i, i + size) for i in range(0, stop - start, size)]
        losses = [self._backward(part, len(ids)) for part in parts]
        value = self._summed(losses)
        if not math.isfinite(value):
            raise DivergedError(f"training loss {value} at step {state.step + 1}")
        self._adam.step(self._rate * 0.5 * (1 + math.cos(math.pi * state.step / self._steps)))
        return value

    def _backward(self, part: Batch, batch_size: int) -> torch.Tensor:
        """Add the gradient of a part of a batch; return its share of the loss."""
        with self._cast():
            prediction = self._module(part.fields, part.constants)
        if prediction.shape != part.target.shape:
            raise RunError(f"the network must return {tuple(part.target.shape)}, got {tuple(prediction.shape)}")
        loss: torch.Tensor = (prediction - part.target).square().sum() / batch_size
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _summed(self, losses: list[torch.Tensor]) -> float:
        """Add up losses, and gradients too, over all ranks."""
        loss = torch.stack(losses).sum() if losses else torch.zeros((), device=self._context.device, dtype=self._dtype)
        if self._ranks.count > 1:
            trained = [p for p in self._module.parameters() if p.requires_grad]
            reached = torch.tensor([float(p.grad is not None) for p in trained], device=loss.device, dtype=loss.dtype)
            for parameter in trained:
                if parameter.grad is None:  # this rank had no example, or none that needs it
                    parameter.grad = torch.zeros_like(parameter)
            self._ranks.add([loss, reached, *(p.grad for p in trained if p.grad is not None)])
            for parameter, ranks in zip(trained, reached.tolist(), strict=True):
                if ranks == 0:  # no example of the batch needs it: Adam leaves it alone, as with one process
                    parameter.grad = None
        return float(loss)

    def _note(self, known: dict[int, float]) -> None:
        """Write down the validation losses that have become known."""
        for number, loss in known.items():
            self._state.history[number - 1]["validation_loss"] = loss

    def _save(self) -> None:
        self._count_time()
        saved = {"state": vars(self._state), "weights": lasting_tensors(self._module), "race": self._race.state()}
        self._resume.write({**saved, "fit": self._identity, "moments": self._adam.state()})

    def _restore(self) -> None:
        saved, weights = self._resume.read(), lasting_tensors(self._module)
        if saved is not None and (saved.keys() != _SAVED or saved["fit"] != self._identity):
            saved = None  # of another version of this code, or of another fit
        if not self._ranks.agree(saved["state"]["step"] if saved is not None else 0):  # also waits until all have read
            raise RunError("the processes of this fit do not see the same resume file; they need one shared --output")
        if saved is None or [tensor.shape for tensor in saved["weights"]] != [tensor.shape for tensor in weights]:
            return
        for name, value in saved["state"].items():
            setattr(self._state, name, value)
        torch._foreach_copy_(weights, saved["weights"])
        self._race.restore(saved["race"])
        self._adam.restore(saved["moments"])

    def _count_time(self) -> None:
        now = time.perf_counter()
        self._state.train_seconds += now - self._clock
        self._clock = now

    def _report(self, status: Any = "ok", reason: str = "") -> FitReport:
        self._count_time()
        state = self._state
        return FitReport(
            status=status,
            reason=reason,
            epochs=min(len(state.history) + (status != "ok"), self._epochs),
            steps=state.step,
            best_epoch=self._race.best_epoch,
            train_seconds=state.train_seconds,
            data_seconds=state.data_seconds,
            history=state.history,
        )


def _mixed(*numbers: int) -> int:
    """A seed that depends on every number in each of its bits: torch's generator for a CPU takes the last 32 alone."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little") >> 1


def _length(budget: Budget, steps_per_epoch: int) -> tuple[int, int]:
    """Epochs and steps of the whole fit."""
    if budget.steps is not None:
        return -(-budget.steps // steps_per_epoch), budget.steps
    assert budget.epochs is not None
    return budget.epochs, budget.epochs * steps_per_epoch


def _fusable(module: nn.Module, device: str) -> bool:
    """One fused Adam kernel, where the device has one; there is none for complex weights."""
    return torch.device(device).type in ("cpu", "cuda") and not any(p.is_complex() for p in module.parameters())
