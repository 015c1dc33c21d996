"""A PDE: the exact solution operator that models are asked to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    from torch import Tensor


class PDESystem(ABC):
    """One PDE on one grid. A registered factory is called as ``factory(grid)``.

    Both methods take a whole batch and work on its device and in its dtype (float32 or float64).
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

    @abstractmethod
    def residual(self, inputs: Fields, outputs: Fields) -> Tensor:
        """How far ``outputs`` is from solving the PDE: left side minus right side on the grid, (batch, n, n)."""
