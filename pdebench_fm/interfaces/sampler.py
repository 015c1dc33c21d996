"""A distribution of PDE examples: which sources and coefficients occur together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.problem import Fields, Grid

if TYPE_CHECKING:
    import torch

Split = Literal["pretraining", "train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Parameters = Mapping[str, np.ndarray]
"""A few numbers per example: name → float64 array whose first axis is the batch."""


class Sampler(ABC):
    """One joint distribution of source and coefficients, for one split of one data set.

    A registered factory is called as ``factory(data_seed=…, split=…, **settings)``. Its other keyword parameters are
    the settings a suite may give; it raises `pdebench_fm.errors.SettingError` for a value it cannot take. It must be
    cheap to construct and must not import torch at module level, so that suites are validated quickly.

    Example i depends only on (settings, data_seed, split, i): not on the batch, the device, the grid, the process, or
    the number of examples. `pdebench_fm.streams` gives random numbers with that property.
    """

    @property
    @abstractmethod
    def physics(self) -> str:
        """The parameter that quantifies the physics, e.g. ``eigenvalue``; a key of what `draw` returns."""

    @property
    def period(self) -> int:
        """Examples i … i + period − 1 cover every stratum once (here: sparsity); 1 without strata."""
        return 1

    @abstractmethod
    def draw(self, ids: Sequence[int]) -> Parameters:
        """Draw the parameters of the examples ``ids``, on the CPU in float64; each array is (len(ids), …)."""

    @abstractmethod
    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        """Make the input channels of the drawn examples on a grid: fields (batch, n, n), constants (batch,)."""

    def solve(self, system: PDESystem, parameters: Parameters, inputs: Fields) -> Fields:
        """Solve examples just realised from ``parameters``; by default ``system.solve(inputs)``.

        A sampler that knows the transform of its sources may do it at less cost. It must agree with the system to
        rounding, and must take any system whose inputs it realises.
        """
        return system.solve(inputs)
