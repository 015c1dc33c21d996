"""Examples as a network takes them: normalised inputs and stacked targets, encoded once if they fit in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pdebench_fm._util.memory import room_for_a_set
from pdebench_fm.errors import UnsupportedError
from pdebench_fm.interfaces import Examples
from pdebench_fm.problem import Fields

Encode = Callable[[Examples, Fields], tuple[Tensor, Tensor]]
"""(examples, inputs) → normalised (fields, constants) of the model's problem."""

LIMIT = 2**30
"""Bytes that one encoded set may take on a CPU."""


class Batch(NamedTuple):
    """What a network is called with, and what it should return.

    Args:
        fields: (batch, F, n, n).
        constants: (batch, K).
        target: (batch, outputs, n, n).
    """

    fields: Tensor
    constants: Tensor
    target: Tensor

    def parts(self, size: int) -> Iterator[Batch]:
        """Split the batch into parts of ``size`` examples, the last of which may be smaller."""
        return map(Batch, *(torch.split(tensor, size) for tensor in self))


def errors(prediction: Tensor, target: Tensor, lacks_outputs: bool) -> Tensor:
    """Return prediction − target; zero for outputs that an example lacks."""
    return (prediction - target).masked_fill(target.isnan(), 0) if lacks_outputs else prediction - target


class Feed:
    """Batches of one set of examples, in the dtype of the network.

    Args:
        examples: the set; at least one example.
        encode: normalises inputs.
        outputs: names of the network's outputs, in order. An output that an example lacks is NaN in its target.
        passes: how often the whole set will be read; a set is kept only if it is read more than once.
        limit: largest size of a set that is kept, in bytes; by default what its device has room for.
    """

    def __init__(
        self,
        examples: Examples,
        encode: Encode,
        outputs: Sequence[str],
        dtype: torch.dtype,
        passes: int,
        limit: int | None = None,
    ) -> None:
        self._examples = examples
        self._encode = encode
        self._outputs = tuple(outputs)
        self._dtype = dtype
        self._whole: Batch | None = None
        mine = [set(part.problem.output_names) for part in examples.components]
        self.lacks_outputs = any(not mine_of_part >= set(self._outputs) for mine_of_part in mine)
        """Whether some examples lack an output: it then has no loss there."""
        first = self._make(np.arange(1))
        self._check_size(first.target)
        size = len(examples) * sum(tensor.numel() * tensor.element_size() for tensor in first)
        if passes > 1 and size <= (room_for_a_set(first.target.device, LIMIT) if limit is None else limit):
            parts = [self._encoded(*batch) for batch in examples.batches()]
            for part in parts:
                self._check_size(part.target)
            self._whole = Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, ids: np.ndarray) -> Batch:
        """Return the examples ``ids``."""
        if self._whole is None:
            return self._make(ids)
        index = torch.as_tensor(ids, device=self._whole.target.device)
        return Batch(*(tensor.index_select(0, index) for tensor in self._whole))

    def _check_size(self, target: Tensor) -> None:
        """Refuse targets whose squared errors would overflow or vanish."""
        largest = float(target.double().nan_to_num().flatten(1).norm(dim=1).max())
        limits = torch.finfo(self._dtype)
        if largest > 0 and not 1e3 * limits.tiny**0.5 < largest < 0.1 * limits.max**0.5:
            raise UnsupportedError(
                f"solutions of norm {largest:.1e} cannot be fitted: their squared errors leave "
                f"{str(self._dtype).removeprefix('torch.')}; give the data in other units"
            )

    def _make(self, ids: np.ndarray) -> Batch:
        return self._encoded(*self._examples.batch(ids))

    def _encoded(self, inputs: Fields, wanted: Fields) -> Batch:
        fields, constants = self._encode(self._examples, inputs)
        # By name: examples may have their channels in another order.
        absent = torch.full_like(next(iter(wanted.values())), math.nan)
        target = torch.stack([wanted.get(name, absent) for name in self._outputs], dim=1)
        return Batch(*(tensor.to(self._dtype) for tensor in (fields, constants, target)))
