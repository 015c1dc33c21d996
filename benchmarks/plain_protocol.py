"""The protocol of a learning curve, carried out plainly: what `learning_curve.py` compares with.

Examples are read from HDF5 files, one by one, by a torch `DataLoader` with one worker process; the network is called as
it comes; Adam is torch's own, not fused; after every epoch the whole validation set is evaluated, and the weights of
the epoch with the lowest loss are kept. Loss, learning-rate schedule, order of the examples and the rule by which
epochs and rates are chosen are those of `pdebench_fm.training`, so scores agree to rounding.

Where there is a choice, the faster one is taken: the worker process lives as long as its loader, and the validation
score that chooses among rates comes from the pass that is made anyway.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from pdebench_fm.problem import Problem
from pdebench_fm.streams import Stream
from pdebench_fm.training import InputNormalisation

Batch = tuple[Tensor, Tensor, Tensor]
"""Normalised fields (batch, F, n, n) and constants (batch, K); targets (batch, outputs, n, n)."""

Decode = Callable[[Sequence[Tensor]], Batch]
"""From what a loader yields to a batch."""


class FileExamples(Dataset[tuple[Tensor, Tensor]]):
    """Examples of an HDF5 file as `pdefm data export` writes it; one item is one example.

    Args:
        path: the file. Each process opens it for itself, when it first reads.
        ids: which of its examples, in order; all of them where None.
    """

    def __init__(self, path: Path, ids: Sequence[int] | np.ndarray | None = None) -> None:
        with h5py.File(path, "r") as file:
            self._ids = list(range(len(file["fields"]))) if ids is None else [int(i) for i in ids]
        self._path = path
        self._file: h5py.File | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the planes (inputs + outputs, n, n) and the constants (K,) of one example."""
        if self._file is None:
            self._file = h5py.File(self._path, "r")
        number = self._ids[index]
        return torch.from_numpy(self._file["fields"][number]), torch.from_numpy(self._file["tensor"][number])


class EpochOrder(Sampler[int]):
    """The order of the examples in epoch ``epoch``, counted from 0: a function of (seed, epoch).

    It is the order of `pdebench_fm.training.loop`.
    """

    def __init__(self, examples: int, seed: int) -> None:
        self._stream = Stream({"order": seed, "examples": examples}, examples)
        self._examples = examples
        self.epoch = 0

    def __len__(self) -> int:
        return self._examples

    def __iter__(self) -> Iterator[int]:
        return iter(np.argsort(self._stream.uniform([self.epoch])[0], kind="stable").tolist())


def loader(
    examples: Dataset[Any], batch_size: int, workers: int = 1, order: EpochOrder | None = None
) -> DataLoader[Any]:
    """Batches of ``examples`` in ``order``, or as they come, read by ``workers`` processes (here where 0)."""
    return DataLoader(examples, batch_size, sampler=order, num_workers=workers, persistent_workers=workers > 0)


def decoder(problem: Problem, normalisation: InputNormalisation) -> Decode:
    """Normalise what `FileExamples` of ``problem`` yields."""

    def decode(batch: Sequence[Tensor]) -> Batch:
        planes, constants = batch
        inputs = {name: planes[:, i] for i, name in enumerate(problem.input_fields)}
        inputs |= {name: constants[:, i] for i, name in enumerate(problem.constants)}
        return *normalisation(problem, inputs), planes[:, len(problem.input_fields) :]

    return decode


@dataclass(frozen=True)
class PlainFit:
    """What a fit did.

    Args:
        best_epoch: epoch whose weights the network has, counted from 1; 0 if the fit diverged.
        validation: mean relative L2 of that epoch on the validation examples; infinite if the fit diverged.
        train_losses: by epoch.
        validation_losses: by epoch.
    """

    best_epoch: int
    validation: float
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]


def fit(
    network: nn.Module,
    decode: Decode,
    train: DataLoader[Any],
    validation: DataLoader[Any],
    *,
    steps: int,
    rate: float,
) -> PlainFit:
    """Train ``network`` in place and leave it with the weights of its best epoch.

    Args:
        network: called as ``network(fields, constants)``.
        decode: applied to what the loaders yield.
        train: batches of an epoch, in the order of an `EpochOrder`.
        validation: evaluated in full after every epoch, and after the last step.
        steps: steps of Adam; the learning rate falls from ``rate`` to zero along a cosine.
        rate: the first learning rate.
    """
    assert isinstance(train.sampler, EpochOrder)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    train_losses: list[float] = []
    validation_losses: list[float] = []
    best_epoch, best_score, best_weights = 0, math.inf, network.state_dict()
    step = 0
    while step < steps:
        train.sampler.epoch = len(train_losses)
        network.train()
        total, seen = 0.0, 0
        for raw in train:
            fields, constants, target = decode(raw)
            for group in optimiser.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.zero_grad()
            loss = (network(fields, constants) - target).square().sum() / len(target)
            loss.backward()
            total, seen = total + loss.item() * len(target), seen + len(target)
            if not math.isfinite(total):
                return PlainFit(0, math.inf, tuple(train_losses), tuple(validation_losses))
            optimiser.step()
            step += 1
            if step == steps:
                break
        train_losses.append(total / seen)
        loss_now, score = evaluate(network, decode, validation)
        if not math.isfinite(loss_now):
            return PlainFit(0, math.inf, tuple(train_losses), tuple(validation_losses))
        if loss_now < min(validation_losses, default=math.inf):
            best_epoch, best_score = len(train_losses), score
            best_weights = copy.deepcopy(network.state_dict())
        validation_losses.append(loss_now)
    network.load_state_dict(best_weights)
    return PlainFit(best_epoch, best_score, tuple(train_losses), tuple(validation_losses))


@torch.no_grad()
def evaluate(network: nn.Module, decode: Decode, examples: DataLoader[Any]) -> tuple[float, float]:
    """Return the loss, and the mean over the examples of the relative L2 error."""
    network.eval()
    losses, errors = [], []
    for raw in examples:
        fields, constants, target = decode(raw)
        squares = (network(fields, constants) - target).square().flatten(1).sum(dim=1)
        losses.append(squares)
        errors.append((squares / target.square().flatten(1).sum(dim=1)).sqrt())
    return float(torch.cat(losses).double().mean()), float(torch.cat(errors).double().mean())
