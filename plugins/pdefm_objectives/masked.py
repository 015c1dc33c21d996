"""Masked reconstruction."""

from __future__ import annotations

import numpy as np
import torch

from pdebench_fm.errors import SettingError
from pdebench_fm.interfaces import Ids, Objective
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.streams import Stream


class Masked(Objective):
    """Fill in squares of the input fields that are set to zero, the same ones in all fields of an example.

    Args:
        ratio: share of the squares that are masked.
        squares: along each side of the domain, whatever the grid.

    Raises:
        SettingError: no square is masked, or none is left.
    """

    def __init__(self, ratio: float = 0.5, squares: int = 8) -> None:
        if squares < 2:
            raise SettingError("squares", f"must be at least 2, got {squares}")
        self._hidden = round(ratio * squares**2)
        if not 0 < self._hidden < squares**2:
            raise SettingError("ratio", f"must mask some of {squares**2} squares and leave some, got {ratio}")
        self._squares = squares
        self._stream = Stream({"objective": "masked", "squares": squares}, squares**2)

    def corrupt(self, problem: Problem, inputs: Fields, ids: Ids) -> Fields:
        """Return the inputs with masked fields."""
        order = np.argsort(self._stream.uniform(ids), axis=1, kind="stable")
        kept = np.ones((len(order), self._squares**2), dtype=np.float32)
        np.put_along_axis(kept, order[:, : self._hidden], 0, axis=1)
        size = problem.grid.size
        square = np.arange(size) * self._squares // size  # of each point along a side
        kept = kept.reshape(-1, self._squares, self._squares)[:, square[:, None], square]
        mask = torch.from_numpy(kept).to(next(iter(inputs.values())).device)
        return {name: value * mask if value.ndim > 1 else value for name, value in inputs.items()}
