"""A PDE: the exact solution operator that models are asked to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pdebench_fm.errors import UsageError
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class NoResidualError(UsageError):
    """A metric asks for the residual of a system that has none: it is left out, see `PDESystem.residual`."""


class PDESystem(ABC):
    """One PDE on one grid. A registered factory is called as ``factory(grid)``.

    `solve` and `residual` take a whole batch and work on its device and in its dtype (float32 or float64).
    """

    solver_tolerance: float = 1e-10
    """Largest residual of what `solve` returns in float64, as a part of `residual_scale`: ``pdefm check`` demands it.

    The default suits a direct solver; an iterative one raises it to where it stops, to 1e-4 at most.
    """

    @property
    @abstractmethod
    def problem(self) -> Problem:
        """Input and output channels, and the grid."""

    @abstractmethod
    def solve(self, inputs: Fields) -> Fields:
        """Solve for the outputs.

        Args:
            inputs: every input channel: fields (batch, n, n), constants (batch,).

        Returns:
            every output channel, (batch, n, n).
        """

    def residual(self, inputs: Fields, outputs: Fields) -> Tensor | None:
        """How far ``outputs`` is from solving the PDE: left side minus right side on the grid.

        By default None: there is none on the grid, as for a map from u(0) to u(T), whose PDE holds at times that are
        not among the outputs. Metrics of the residual are then left out, and its checks skipped.

        Returns:
            (batch, n, n), or (batch, equations, n, n).
        """
        return None

    def residual_scale(self, inputs: Fields) -> Tensor:
        """What the norm of the residual is measured against, (batch,), positive.

        By default the 2-norm over the grid of the first input field, which is taken for the right-hand side. Override
        it if the right-hand side is another input, or no input at all: the size of a coefficient says nothing about
        how well an equation is solved.
        """
        norm: Tensor = inputs[self.problem.input_fields[0]].double().flatten(1).norm(dim=1)
        return norm

    def read_columns(self, columns: np.ndarray) -> Mapping[str, np.ndarray] | None:
        """Return the constants of examples in a published file that does not name its columns.

        Override it where data of this PDE are in circulation without names; `named_columns` does the usual case.

        Args:
            columns: (examples, C), in the file's order; also with no examples, when only names and C are asked for.

        Returns:
            every constant of the problem, (examples,); None where no order is known, as by default.

        Raises:
            UsageError: C is not what such files have.
        """
        return None


def named_columns(columns: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Name the columns of an array (examples, C), in order.

    Raises:
        UsageError: there are more or fewer than names.
    """
    if columns.shape[1] != len(names):
        raise UsageError(f"expected {len(names)} columns ({', '.join(names)}), got {columns.shape[1]}")
    return {name: columns[:, i] for i, name in enumerate(names)}
