"""Another way of training than the rule that all models share, e.g. that of a model's authors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """What replaces Adam, its cosine decay and the squared error.

    Args:
        groups: what the optimiser is made from: ``params``, ``factor`` (the multiple of the learning rate), and its own
            options, e.g. ``weight_decay``.
        optimizer: returns one for these groups, e.g. ``torch.optim.AdamW``.
        schedule: the multiple of the learning rate, from the part of the steps that is done, in [0, 1), and the
            validation losses of the epochs so far.
        loss: of each example, (batch,), from prediction and target (batch, outputs, n, n).
        clip: largest norm of the gradient; None for any.
    """

    groups: Sequence[Mapping[str, Any]]
    optimizer: Callable[..., torch.optim.Optimizer]
    schedule: Callable[[float, Sequence[float]], float]
    loss: Callable[[Tensor, Tensor], Tensor]
    clip: float | None = None
