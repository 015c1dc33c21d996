"""Super-resolution."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pdebench_fm.errors import SettingError, UnsupportedError
from pdebench_fm.interfaces import Ids, Objective
from pdebench_fm.problem import Fields, Problem


class SuperResolution(Objective):
    """Refine input fields that are averaged over squares of factor × factor points.

    Args:
        factor: how much finer the grid is than what is seen of it.

    Raises:
        SettingError: the factor is below 2.
    """

    def __init__(self, factor: int = 4) -> None:
        if factor < 2:
            raise SettingError("factor", f"must be at least 2, got {factor}")
        self._factor = factor

    def corrupt(self, problem: Problem, inputs: Fields, ids: Ids) -> Fields:
        """Return the inputs with averaged fields.

        Raises:
            UnsupportedError: the grid is not a multiple of the factor.
        """
        if problem.grid.size % self._factor:
            raise UnsupportedError(
                f"super-resolution by {self._factor} needs a multiple of {self._factor} points a side, "
                f"got {problem.grid.size}"
            )
        return {name: self._averaged(value) if value.ndim > 1 else value for name, value in inputs.items()}

    def _averaged(self, fields: Tensor) -> Tensor:
        coarse = functional.avg_pool2d(fields[:, None], self._factor)
        return functional.interpolate(coarse, scale_factor=float(self._factor), mode="nearest")[:, 0]
