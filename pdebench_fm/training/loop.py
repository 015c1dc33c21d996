"""The training loop (paper, A.3): Adam, cosine decay to zero, the epoch with the lowest validation loss.

The loss is the squared error, summed over the grid and the outputs and averaged over the batch, on unscaled targets.
The order of the examples depends only on the seed and the epoch. A last partial batch is a step too.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from pdebench_fm.errors import DivergedError, RunError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, Progress, TrialSettings
from pdebench_fm.streams import Stream
from pdebench_fm.training.calling import call_network, real_dtype, seed_random
from pdebench_fm.training.feed import Batch, Encode, Feed, errors
from pdebench_fm.training.micro_batches import micro_batch_size
from pdebench_fm.training.precision import Cast, matmul_precision, training_precision
from pdebench_fm.training.ranks import Ranks
from pdebench_fm.training.recipe import Recipe
from pdebench_fm.training.resume import SAVE_INTERVAL, ResumeFile, copy_into, lasting_buffers, lasting_tensors

ParameterGroup = tuple[Sequence[nn.Parameter], float]
"""Parameters, and the multiple of the learning rate that they are trained with."""

VALIDATION_CHUNK = 64
"""Validation examples in one call of the network; fewer if a training batch of that size would not fit."""


def fit_network(
    module: nn.Module,
    encode: Encode,
    outputs: Sequence[str],
    train: Examples,
    validation: Examples,
    budget: Budget,
    trial: TrialSettings,
    context: FitContext,
    *,
    parameter_groups: Sequence[ParameterGroup] | None = None,
    recipe: Recipe | None = None,
    micro_batch: int | None = None,
    save_interval: float = SAVE_INTERVAL,
) -> FitReport:
    """Train ``module`` in place and leave it with the weights of its best epoch.

    Args:
        module: called as ``module(fields, constants)``; returns (batch, outputs, n, n).
        encode: normalises inputs.
        outputs: names of the module's outputs, in order; one that an example lacks has no loss there.
        train: examples to fit, at least one.
        validation: examples that choose the epoch, at least one.
        budget: epochs or steps, and the batch size.
        trial: has the hyperparameter ``learning_rate``.
        context: workspace, device, ranks, precision, progress.
        parameter_groups: which parameters are trained, and with which multiple of the learning rate; by default all
            with the rate itself.
        recipe: replaces optimiser, groups, decay of the rate and loss.
        micro_batch: examples that pass through the network at once; by default as many as fit in memory.
        save_interval: seconds between two writes of the resume file, at least; 0 writes before every step.
    """
    device = torch.device(context.device)
    module.to(device)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        training_precision(module, context.precision, device) as cast,
    ):
        clock = time.perf_counter()
        schedule = _Schedule.of(budget, len(train), trial.hyperparameters["learning_rate"])
        dtype, passes = real_dtype(module), schedule.epochs
        trained = Feed(train, encode, outputs, dtype, passes)
        validated = Feed(validation, encode, outputs, dtype, passes)
        state = _FitState(data_seconds=time.perf_counter() - clock)
        first = trained.batch(np.arange(1))
        micro_batch = micro_batch or micro_batch_size(module, first)  # also completes lazy modules
        report = _Fit(
            module,
            cast,
            trained,
            validated,
            schedule,
            trial.seed,
            context,
            _optimizer(recipe, parameter_groups or [(list(module.parameters()), 1.0)], device),
            recipe,
            micro_batch,
            ResumeFile(context.next_resume_file(), save_interval),
            _digest((schedule, trial.seed, len(train)), [*lasting_tensors(module), *first]),
            state,
            clock,
        ).run()
    module.eval()
    return report


@dataclass(frozen=True)
class _Schedule:
    """How many steps a fit takes, and how large they are."""

    batch_size: int
    steps_per_epoch: int
    epochs: int
    steps: int
    rate: float

    @classmethod
    def of(cls, budget: Budget, examples: int, rate: float) -> Self:
        """Apply a budget to a number of training examples."""
        batch_size = min(budget.batch_size, examples)
        steps_per_epoch = math.ceil(examples / batch_size)
        if budget.steps is not None:
            return cls(batch_size, steps_per_epoch, math.ceil(budget.steps / steps_per_epoch), budget.steps, rate)
        assert budget.epochs is not None
        return cls(batch_size, steps_per_epoch, budget.epochs, budget.epochs * steps_per_epoch, rate)

    def learning_rate(self, step: int) -> float:
        """Return the rate of a step, counted from 0: cosine decay by step, not by epoch."""
        return self.rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass
class _FitState:
    """What a killed fit needs to continue, apart from weights and moments."""

    step: int = 0
    epoch_loss: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_weights: list[Tensor] = field(default_factory=list)
    train_seconds: float = 0.0
    data_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Fit:
    """One fit of one network; ``identity`` tells it apart from others with the same workspace."""

    module: nn.Module
    cast: Cast
    train: Feed
    validation: Feed
    schedule: _Schedule
    seed: int
    context: FitContext
    optimizer: torch.optim.Optimizer
    recipe: Recipe | None
    micro_batch: int
    resume: ResumeFile
    identity: str
    state: _FitState
    clock: float

    def __post_init__(self) -> None:
        self.ranks = Ranks(self.context.rank, self.context.ranks)
        self.orders = Stream({"order": self.seed, "examples": len(self.train)}, len(self.train))

    def run(self) -> FitReport:
        """Train to the last step; the network ends with the weights of the best epoch."""
        self._restore()
        state, schedule = self.state, self.schedule
        try:
            while state.step < schedule.steps:
                epoch, position = divmod(state.step, schedule.steps_per_epoch)
                # The order is a function of seed and epoch, so a resumed fit sees the same batches.
                order = np.argsort(self.orders.uniform([epoch])[0], kind="stable")
                for ids in self._batches(order, position):
                    # Save before a step, so that the end of an epoch is never separated from its validation.
                    if self.ranks.is_main and self.resume.due():
                        self._save()
                    state.epoch_loss += self._step(ids) * len(ids)
                    state.step += 1
                    best = state.best_loss if state.best_epoch else None
                    self.context.progress(Progress(state.step, schedule.steps, "step", best))
                self._end_epoch(epoch + 1)
            if state.best_epoch == 0:
                raise DivergedError("validation loss is not finite in any epoch")
        except DivergedError as error:
            self.resume.remove()
            return self._report("diverged", str(error))
        copy_into(self.module, state.best_weights)
        return self._report("ok")

    def _batches(self, order: np.ndarray, position: int) -> Iterator[np.ndarray]:
        """Yield the examples of each step of an epoch, from step ``position`` on, until the budget is spent."""
        schedule = self.schedule
        self.module.train()
        for number in range(position, min(schedule.steps_per_epoch, position + schedule.steps - self.state.step)):
            yield order[number * schedule.batch_size : (number + 1) * schedule.batch_size]

    def _step(self, ids: np.ndarray) -> float:
        """Take one step of Adam on the examples ``ids``; return the loss before it."""
        state = self.state
        # Each rank computes its share of the batch.
        clock = time.perf_counter()
        start, stop = self.ranks.share(len(ids))
        batch = self.train.batch(ids[start:stop]) if stop > start else None
        state.data_seconds += time.perf_counter() - clock
        # Dropout and the like depend on seed, rank and step, not on what was drawn before.
        seed_random(mixed_seed(self.seed, self.ranks.rank, state.step), self.context.device)
        # A batch that does not fit in memory is accumulated in parts.
        self.module.zero_grad()
        loss = torch.zeros((), dtype=real_dtype(self.module), device=self.context.device)
        for part in batch.parts(self.micro_batch) if batch is not None else ():
            loss += self._backward(part, len(ids))
        self.ranks.add_gradients(self.module, loss)
        if not math.isfinite(value := loss.item()):
            raise DivergedError(f"training loss {value} at step {state.step + 1}")
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = group["factor"] * rate
        if self.recipe is not None and self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self.optimizer.step()
        return value

    def _backward(self, part: Batch, batch_size: int) -> Tensor:
        """Add the gradient of a part of a batch; return its share of the loss."""
        with self.cast():
            prediction = call_network(self.module, part.fields, part.constants, part.target.shape[1])
        if not prediction.requires_grad:
            raise RunError("the prediction depends on no trained weight: all are frozen, or the forward pass detaches")
        loss = self._losses(prediction, part.target, self.train.lacks_outputs).sum() / batch_size
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _losses(self, prediction: Tensor, target: Tensor, lacks_outputs: bool) -> Tensor:
        """Return the loss of each example, in parts that are to be summed; zero for outputs that an example lacks."""
        if self.recipe is None:
            return errors(prediction, target, lacks_outputs).square()
        known = torch.where(target.isnan(), prediction.detach(), target) if lacks_outputs else target
        return self.recipe.loss(prediction, known)[:, None]

    def _learning_rate(self) -> float:
        """Return the rate of this step."""
        step, schedule = self.state.step, self.schedule
        if self.recipe is None:
            return schedule.learning_rate(step)
        validated = [each["validation_loss"] for each in self.state.history if each["validation_loss"] is not None]
        return schedule.rate * self.recipe.schedule(step / schedule.steps, validated)

    def _end_epoch(self, number: int) -> None:
        """Validate an epoch, and keep its weights if they are the best so far."""
        state, schedule = self.state, self.schedule
        self.ranks.take_last(lasting_buffers(self.module))  # running statistics of each rank's own examples
        loss = self._validation_loss()
        if loss < state.best_loss:  # never true of NaN or infinity; of two equal epochs the first is kept
            state.best_epoch, state.best_loss = number, loss
            state.best_weights = [tensor.clone() for tensor in lasting_tensors(self.module)]
        seen = min(len(self.train), (state.step - (number - 1) * schedule.steps_per_epoch) * schedule.batch_size)
        known = loss if math.isfinite(loss) else None
        state.history.append({"epoch": number, "train_loss": state.epoch_loss / seen, "validation_loss": known})
        state.epoch_loss = 0.0

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Return the mean loss over all validation examples, in float32 and summed in float64."""
        self.module.eval()
        losses = torch.zeros(len(self.validation), dtype=torch.float64, device=self.context.device)
        start, stop = self.ranks.share(len(losses))
        size = min(VALIDATION_CHUNK, self.micro_batch)
        with matmul_precision(tf32=False):
            for first in range(start, stop, size):
                ids = np.arange(first, min(first + size, stop))
                fields, constants, target = self.validation.batch(ids)
                prediction = call_network(self.module, fields, constants, target.shape[1])
                missed = self._losses(prediction, target, self.validation.lacks_outputs)
                losses[first : first + len(ids)] = missed.flatten(1).sum(dim=1)
        self.ranks.add([losses])
        return losses.mean().item()

    def _save(self) -> None:
        """Write all that a killed fit needs."""
        self._count_time()
        weights, moments = lasting_tensors(self.module), self.optimizer.state_dict()
        self.resume.write({"fit": self.identity, "state": vars(self.state), "weights": weights, "adam": moments})

    def _restore(self) -> None:
        """Continue from the resume file if it is of this very fit."""
        saved = self.resume.read()
        if saved is not None and saved.get("fit") != self.identity:
            saved = None
        # Agreeing also waits until every rank has read the file.
        if not self.ranks.agree(saved["state"]["step"] if saved is not None else 0):
            raise RunError("the processes of this fit do not see the same resume file; they need one shared --output")
        if saved is None:
            return
        vars(self.state).update(saved["state"])
        copy_into(self.module, saved["weights"])
        self.optimizer.load_state_dict(saved["adam"])

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.state.train_seconds += now - self.clock
        self.clock = now

    def _report(self, status: Literal["ok", "diverged"], reason: str = "") -> FitReport:
        self._count_time()
        state = self.state
        begun = len(state.history) + (status != "ok")  # a fit that diverges ends within an epoch
        return FitReport(
            status=status,
            reason=reason,
            epochs=min(begun, self.schedule.epochs),
            steps=state.step,
            best_epoch=state.best_epoch,
            train_seconds=state.train_seconds,
            data_seconds=state.data_seconds,
            history=state.history,
        )


def _optimizer(recipe: Recipe | None, groups: Sequence[ParameterGroup], device: torch.device) -> torch.optim.Optimizer:
    return _adam(groups, device) if recipe is None else recipe.optimizer([dict(group) for group in recipe.groups])


def _adam(groups: Sequence[ParameterGroup], device: torch.device) -> torch.optim.Adam:
    """Return Adam with torch's defaults, fused if torch has such a kernel: not for complex weights."""
    is_complex = any(parameter.is_complex() for parameters, _ in groups for parameter in parameters)
    fused = device.type in ("cpu", "cuda") and not is_complex
    return torch.optim.Adam([{"params": list(own), "factor": factor} for own, factor in groups], fused=fused)


def mixed_seed(*numbers: int) -> int:
    """Return a seed of which every bit depends on every number: torch's CPU generator takes only the last 32."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "little") >> 1


def _digest(settings: tuple[Any, ...], tensors: Iterable[Tensor]) -> str:
    """Return a hash that tells apart the fits of one workspace, and versions of the resume file."""
    digest = hashlib.sha256(repr(("resume file 2", settings)).encode())
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
