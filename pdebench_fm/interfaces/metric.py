"""How a prediction is scored: one number per example, and how the numbers are summarised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    from torch import Tensor

SCORE = "relative_l2"
"""The benchmark's own metric, by name: trials are chosen by it, and curves, tables and the leaderboard show it."""

Direction = Literal["lower", "higher"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


class Metric(ABC):
    """A score: any finite number. A registered factory is called without arguments.

    Per-example values of chunks are simply joined, so chunking cannot change a score. NaN stays NaN: a score is never
    the mean of the examples that happened to be finite.

    Attributes:
        better: whether lower or higher values are better.
    """

    better: ClassVar[Direction] = "lower"

    @property
    def needs_system(self) -> bool:
        """Whether `per_sample` needs the PDE itself; such a metric is left out where examples come without one."""
        return False

    @abstractmethod
    def per_sample(
        self, problem: Problem, inputs: Fields, prediction: Fields, target: Fields, system: PDESystem | None
    ) -> Tensor:
        """Return one number per example, (batch,), in float64; the fields given are left as they are."""

    def summarise(self, values: np.ndarray) -> np.ndarray:
        """Summarise per-example values over the last axis, (…, examples) → (…); the mean, unless a metric differs.

        The leading axes are the resamples of the bootstrap.
        """
        return np.asarray(np.mean(values, axis=-1))
