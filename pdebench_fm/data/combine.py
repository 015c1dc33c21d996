"""Sets of examples made from other sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces import Examples, Ids
from pdebench_fm.problem import Fields, Problem


class Subset(Examples):
    """Some examples of another set, in a given order."""

    def __init__(self, examples: Examples, ids: Ids) -> None:
        self._examples = examples
        self._ids = np.asarray(ids, dtype=np.int64)
        if len(self._ids) and not (self._ids.min() >= 0 and self._ids.max() < len(examples)):
            raise UsageError(f"a subset must name examples 0 … {len(examples) - 1}, got up to {self._ids.max()}")

    @property
    def problem(self) -> Problem:
        """The problem of the whole set."""
        return self._examples.problem

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Return the chosen examples."""
        return self._examples.batch(self._ids[np.asarray(ids, dtype=np.int64)])

    def input_batch(self, ids: Ids) -> Fields:
        """Return the inputs of the chosen examples."""
        return self._examples.input_batch(self._ids[np.asarray(ids, dtype=np.int64)])


class NoExamples(Examples):
    """The empty set of a problem; an untrained model is initialised on it."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    @property
    def problem(self) -> Problem:
        """The problem."""
        return self._problem

    def __len__(self) -> int:
        return 0

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Raise an error: there are no examples."""
        raise UsageError("an empty set of examples has no batch")


class Mixture(Examples):
    """Several sets in a row, embedded in the union of their problems (paper, section 4)."""

    def __init__(self, parts: Sequence[Examples]) -> None:
        self._parts = tuple(parts)
        self._problem = Problem.union(part.problem for part in parts)
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    @property
    def problem(self) -> Problem:
        """The union of the parts' problems."""
        return self._problem

    @property
    def components(self) -> Sequence[Examples]:
        """The parts, each in its own problem."""
        return tuple(component for part in self._parts for component in part.components)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Return examples of any parts. Inputs that a part lacks are zero; outputs are NaN."""
        import torch

        index = np.asarray(ids, dtype=np.int64)
        owner = np.searchsorted(self._starts, index, side="right") - 1
        positions, inputs, outputs = [], [], []
        for number in np.unique(owner):
            where = np.flatnonzero(owner == number)
            given, wanted = self._parts[number].batch(index[where] - self._starts[number])
            positions.append(where)
            inputs.append(self._problem.embed(given))
            absent = torch.full_like(next(iter(wanted.values())), math.nan)
            outputs.append({name: wanted.get(name, absent) for name in self._problem.output_names})
        order = torch.as_tensor(np.argsort(np.concatenate(positions)), device=next(iter(inputs[0].values())).device)

        def joined(parts: list[Fields] | list[dict[str, torch.Tensor]]) -> Fields:
            return {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}

        return joined(inputs), joined(outputs)


class InMemory(Examples):
    """Another set, kept as float32 tensors on its device."""

    def __init__(self, examples: Examples) -> None:
        self._problem = examples.problem
        self._length = len(examples)
        self._inputs, self._outputs = _collect(examples)
        components = examples.components
        self._components = (self,) if len(components) == 1 else components

    @property
    def problem(self) -> Problem:
        """The problem of the kept set."""
        return self._problem

    @property
    def components(self) -> Sequence[Examples]:
        """The parts of the kept set."""
        return self._components

    def __len__(self) -> int:
        return self._length

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Return copies of the kept examples."""
        import torch

        index = torch.as_tensor(np.asarray(ids, dtype=np.int64), device=next(iter(self._outputs.values())).device)
        inputs = {name: values.index_select(0, index) for name, values in self._inputs.items()}
        return inputs, {name: values.index_select(0, index) for name, values in self._outputs.items()}


def size_in_memory(examples: Examples) -> int:
    """Return the bytes that `InMemory` would keep."""
    problem = examples.problem
    planes = len(problem.input_fields) + len(problem.outputs)
    return 4 * len(examples) * (planes * problem.grid.size**2 + len(problem.constants))


def kept(examples: Examples, limit: int = 2**31) -> Examples:
    """Return the set in memory if it takes at most ``limit`` bytes, otherwise the set itself."""
    return InMemory(examples) if 0 < size_in_memory(examples) <= limit else examples


def _collect(examples: Examples) -> tuple[Fields, Fields]:
    import torch

    inputs, outputs = zip(*examples.batches(), strict=True)
    return (
        {name: torch.cat([part[name] for part in inputs]) for name in examples.problem.input_names},
        {name: torch.cat([part[name] for part in outputs]) for name in examples.problem.output_names},
    )
