"""A set of examples: what a model is fitted to and scored on, wherever they come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np

from pdebench_fm.problem import Fields, Problem

Ids: TypeAlias = Sequence[int] | np.ndarray
"""Which examples: whole numbers in [0, len), in any order."""

CHUNK = 64
"""Examples made at a time where a whole set is wanted: enough to batch the transforms, few enough for the cache."""


class Examples(ABC):
    """A fixed, ordered set of (inputs, outputs): sampled and solved on demand, or read from a file."""

    @property
    @abstractmethod
    def problem(self) -> Problem:
        """The channels and the grid of every example."""

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""

    @abstractmethod
    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Return inputs and outputs of the examples ``ids`` (each in [0, len)), float32 on this set's device."""

    def input_batch(self, ids: Ids) -> Fields:
        """Return only the inputs of the examples ``ids``; sampled ones need not be solved for that."""
        return self.batch(ids)[0]

    def batches(self, size: int = CHUNK) -> Iterator[tuple[Fields, Fields]]:
        """Yield the whole set in order, ``size`` examples at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(range(start, min(start + size, len(self))))

    @property
    def components(self) -> Sequence[Examples]:
        """The sets this one is mixed from, each in its own problem; itself if it is no mixture."""
        return (self,)
