"""Examples without solutions: what is seen of inputs, and what has to be given back."""

from __future__ import annotations

from pdebench_fm.interfaces import Examples, Ids, Objective
from pdebench_fm.problem import Fields, Problem


class Unlabelled(Examples):
    """The inputs of another set, as an objective of pre-training presents them. Nothing is solved.

    Args:
        examples: their outputs are not used.
        objective: makes inputs and outputs of their inputs.
    """

    def __init__(self, examples: Examples, objective: Objective) -> None:
        self._examples = examples
        self._objective = objective

    @property
    def problem(self) -> Problem:
        """The map that the objective asks for."""
        return self._objective.problem(self._examples.problem)

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Return what is seen of the inputs, and the outputs of the objective."""
        problem, inputs = self._examples.problem, self._examples.input_batch(ids)
        seen = self._objective.corrupt(problem, inputs, ids)
        return seen, self._objective.targets(problem, inputs, seen)
