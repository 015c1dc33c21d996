"""Which epoch has the lowest validation loss: found exactly, without validating every epoch on every example.

The plain protocol validates after each epoch. Nothing in training depends on the outcome, so that epochs can wait:
their weights are kept, and a block of them is judged together. The loss of an epoch is a sum of non-negative terms, one
an example; what has been added up so far bounds it from below. The epoch with the lowest bound is always the next to be
given a few more examples, so that no epoch is evaluated further than it takes to see that it loses, and the first whose
sum is complete has won. Examples that weigh most in the best epoch so far come first.

The sum of a complete epoch is taken in the order of the examples, and of two equal epochs the earlier one wins: the
choice is that of the plain protocol.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pdebench_fm.training.feed import Feed
from pdebench_fm.training.precision import matmul_precision
from pdebench_fm.training.ranks import Ranks

ROOM = 2**26
"""Bytes of weights that may wait. A network that is larger is judged epoch by epoch."""
MOST_WAITING = 64
"""Epochs that may wait, however small the network: the user wants to see the best one now and then."""
POINTS = 2**15
"""Grid points that are worth a call of the network: 32 examples at 32², 8 from 64² on. With fewer, what a call costs
by itself is more than what is saved by evaluating no example in vain (`python benchmarks/validation.py --grid 32`)."""
_SLACK = 1 - 1e-12  # partial sums are added up in another order than complete ones


class DivergedError(Exception):
    """No epoch has a finite validation loss."""


@dataclass
class _Epoch:
    """One epoch that may be the best: its weights, and its loss on the examples evaluated so far (else NaN).

    A loss that is not finite is kept as infinite: such an epoch loses to any other.
    """

    number: int
    weights: list[Tensor]
    losses: np.ndarray

    @property
    def complete(self) -> bool:
        return not np.isnan(self.losses).any()

    @property
    def bound(self) -> float:
        """The sum of all losses where they are known, otherwise less than it."""
        return float(self.losses.sum()) if self.complete else float(np.nansum(self.losses)) * _SLACK


class EpochRace:
    """The best epoch so far, and those that wait to be compared with it.

    Args:
        module: the network in training.
        feed: the validation examples.
        ranks: processes that share the work.
        room: bytes of weights that may wait.
    """

    def __init__(self, module: nn.Module, feed: Feed, ranks: Ranks | None = None, room: int = ROOM) -> None:
        self._module = module
        self._feed = feed
        self._ranks = ranks or Ranks()
        size = sum(tensor.numel() * tensor.element_size() for tensor in self._tensors)
        self._most = min(MOST_WAITING, max(1, room // max(1, size)))
        self._chunk = min(64, max(8, len(feed) // 16, POINTS // feed.points))
        self._best: _Epoch | None = None
        self._waiting: list[_Epoch] = []

    @property
    def _tensors(self) -> list[Tensor]:
        """Asked for each time: a network may put another tensor in a buffer's place."""
        return lasting_tensors(self._module)

    @property
    def best_epoch(self) -> int:
        """The best epoch judged so far, counted from 1; 0 where there is none."""
        return self._best.number if self._best is not None else 0

    @property
    def best_loss(self) -> float | None:
        """Its loss: the mean over the validation examples; None where no epoch has a finite one."""
        known = self._best is not None and math.isfinite(self._best.bound)
        return self._mean(self._best) if known and self._best is not None else None

    def enter(self, number: int) -> dict[int, float]:
        """Let the network's present weights take part as epoch ``number``; return the losses that became known."""
        weights = [tensor.clone() for tensor in self._tensors]
        self._waiting.append(_Epoch(number, weights, np.full(len(self._feed), math.nan)))
        return self.judge() if len(self._waiting) >= self._most else {}

    def judge(self) -> dict[int, float]:
        """Compare all that wait with the best so far; return the losses of those that had to be evaluated in full.

        The network keeps the weights it has.
        """
        if not self._waiting:
            return {}
        present = self._waiting[-1].weights  # entered last, and not trained since
        was_training = self._module.training
        self._module.eval()
        try:
            if self._best is None:  # one complete epoch tells which examples weigh most
                while not self._waiting[-1].complete:
                    self._extend(self._waiting[-1], np.arange(len(self._feed)))
            pattern = self._best if self._best is not None else self._waiting[-1]
            order = np.argsort(-pattern.losses, kind="stable")
            everyone = [*([self._best] if self._best is not None else []), *self._waiting]
            heap = [(epoch.bound, epoch.number, epoch) for epoch in everyone]
            heapq.heapify(heap)
            while not heap[0][2].complete:
                epoch = heap[0][2]
                self._extend(epoch, order)
                heapq.heapreplace(heap, (epoch.bound, epoch.number, epoch))
        finally:
            self._put(present)
            self._module.train(was_training)
        whole = [epoch for epoch in self._waiting if epoch.complete and math.isfinite(epoch.bound)]
        known = {epoch.number: self._mean(epoch) for epoch in whole}
        self._best, self._waiting = heap[0][2], []
        return known

    def take_best(self) -> None:
        """Give the network the weights of the best epoch judged.

        Raises:
            DivergedError: no epoch has a finite loss.
        """
        assert self._best is not None
        if not math.isfinite(self._best.bound):
            raise DivergedError("validation loss is not finite in any epoch")
        self._put(self._best.weights)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as plain data and tensors."""

        def plain(epoch: _Epoch) -> dict[str, Any]:
            return {
                "number": epoch.number,
                "weights": epoch.weights,
                "losses": torch.from_numpy(epoch.losses),
            }

        best = plain(self._best) if self._best is not None else None
        return {"best": best, "waiting": [plain(epoch) for epoch in self._waiting]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        device = self._tensors[0].device

        def epoch(plain: dict[str, Any]) -> _Epoch:
            return _Epoch(plain["number"], [w.to(device) for w in plain["weights"]], plain["losses"].numpy())

        self._best = epoch(state["best"]) if state["best"] is not None else None
        self._waiting = [epoch(plain) for plain in state["waiting"]]

    @torch.no_grad()
    def _extend(self, epoch: _Epoch, order: np.ndarray) -> None:
        """Evaluate an epoch on a few more examples, the first in ``order`` that it has not seen."""
        self._put(epoch.weights)
        ids = order[np.isnan(epoch.losses[order])][: self._chunk]
        losses = torch.zeros(len(ids), dtype=torch.float64, device=self._tensors[0].device)
        start, stop = self._ranks.share(ids)
        if stop > start:
            fields, constants, target = self._feed.batch(ids[start:stop])
            with matmul_precision(tf32=False):  # evaluation is float32, whatever training is
                error = self._module(fields, constants) - target
            losses[start:stop] = error.square().flatten(1).sum(dim=1)
        self._ranks.add([losses])
        epoch.losses[ids] = np.nan_to_num(losses.cpu().numpy(), nan=math.inf, posinf=math.inf)

    @torch.no_grad()
    def _put(self, weights: list[Tensor]) -> None:
        """Give the network the weights of an epoch."""
        tensors = self._tensors
        for tensor, value in zip(tensors, weights, strict=True):
            if tensor.shape != value.shape:  # a buffer that grows
                tensor.data = torch.empty_like(value)
        torch._foreach_copy_(tensors, weights)

    def _mean(self, epoch: _Epoch) -> float:
        return epoch.bound / len(self._feed)


def lasting_tensors(module: nn.Module) -> list[Tensor]:
    """What has to be kept to get the module back: parameters and persistent buffers, in their compute layout."""
    return [*(parameter.detach() for parameter in module.parameters()), *lasting_buffers(module)]


def lasting_buffers(module: nn.Module) -> list[Tensor]:
    """The buffers that are part of a checkpoint."""
    return [
        buffer
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
        if name not in owner._non_persistent_buffers_set
    ]
