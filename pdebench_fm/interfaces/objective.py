"""What a pre-training learns from inputs alone, without their solutions."""

from __future__ import annotations

from abc import ABC, abstractmethod

from pdebench_fm.interfaces.examples import Ids
from pdebench_fm.problem import Channel, Fields, Problem

CLEAN = "clean_"
"""Starts the name of the output that gives an input field back."""


class Objective(ABC):
    """An objective of unsupervised pre-training: to give back input fields that are seen only in part.

    A registered factory is called with the arguments that a suite gives, e.g. ``{masked: {ratio: 0.5}}``. The model is
    built for the outputs of the system too. They have no loss before a downstream fit.
    """

    @abstractmethod
    def corrupt(self, problem: Problem, inputs: Fields, ids: Ids) -> Fields:
        """Return what the model sees of some inputs; whatever is random depends only on the arguments and the ids.

        Args:
            problem: what ``inputs`` belong to.
            inputs: fields (batch, n, n), constants (batch,), float32. Must not be changed.
            ids: the examples' numbers, (batch,).

        Returns:
            all input channels.
        """

    def problem(self, problem: Problem) -> Problem:
        """Return the map to be learned in place of ``problem``: one output for each input field."""
        outputs = tuple(Channel(CLEAN + name) for name in problem.input_fields)
        return Problem(problem.inputs, outputs, problem.grid, problem.homogeneous)

    def targets(self, problem: Problem, inputs: Fields, seen: Fields) -> Fields:
        """Return the outputs of examples: their fields, divided by the root mean square of the fields as seen.

        So examples of any size count alike, and in a homogeneous problem the target does not depend on the size of the
        inputs, which normalisation removes.
        """
        squares = [seen[name].square().mean(dim=(-2, -1)) for name in problem.input_fields]
        size = (sum(squares[1:], start=squares[0]) / len(squares)).sqrt()[:, None, None]
        return {CLEAN + name: inputs[name] / size.where(size > 0, 1.0) for name in problem.input_fields}
