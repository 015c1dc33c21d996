"""Examples for checks and tests that need no plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pdebench_fm.interfaces import Examples, Ids
from pdebench_fm.problem import Channel, Fields, Grid, Problem

if TYPE_CHECKING:
    from torch import Tensor


class SmoothExamples(Examples):
    """Random smooth fields and constants; output j is j times the blurred sum of the fields, times each constant.

    Any problem, any size, no plugin needed. Example i is the same whatever the count.
    """

    def __init__(self, problem: Problem, count: int, seed: int = 0) -> None:
        self._problem = problem
        self._count = count
        self._seed = seed

    @property
    def problem(self) -> Problem:
        """The problem given."""
        return self._problem

    def __len__(self) -> int:
        return self._count

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Make the examples ``ids``."""
        import torch

        made = [self._example(int(i)) for i in ids]
        inputs = {c.name: torch.stack([example[c.name] for example in made]) for c in self._problem.inputs}
        blurred = _smooth(sum((inputs[name] for name in self._problem.input_fields), start=torch.zeros(())), 2)
        for name in self._problem.constants:
            blurred = blurred * inputs[name][:, None, None]
        return inputs, {name: j * blurred for j, name in enumerate(self._problem.output_names, start=1)}

    def _example(self, number: int) -> dict[str, Tensor]:
        import torch

        random = np.random.Generator(np.random.Philox(key=[self._seed, number]))
        size = self._problem.grid.size
        made = {}
        for channel in self._problem.inputs:
            if channel.role == "field":
                made[channel.name] = _smooth(torch.from_numpy(random.standard_normal((size, size))).float(), 4)
            else:
                made[channel.name] = torch.tensor(random.uniform(0.5, 1.5), dtype=torch.float32)
        return made


def plain_examples() -> SmoothExamples:
    """Return four examples of a problem with one field and one constant, at 16²."""
    inputs = (Channel("source"), Channel("k11", "constant"))
    return SmoothExamples(Problem(inputs, (Channel("solution"),), Grid(16)), 4)


def _smooth(values: Tensor, cutoff: int) -> Tensor:
    """Keep wavenumbers up to ``cutoff``."""
    import torch

    size = values.shape[-1]
    ky, kx = torch.fft.fftfreq(size, 1 / size).abs(), torch.fft.rfftfreq(size, 1 / size)
    keep = (ky[:, None] <= cutoff) & (kx[None, :] <= cutoff)
    smooth: Tensor = torch.fft.irfft2(torch.fft.rfft2(values) * keep, s=(size, size))
    return smooth
