"""Examples that are sampled and solved on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pdebench_fm.interfaces import Examples, Ids, Parameters, PDESystem, Sampler
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    import torch


class SampledExamples(Examples):
    """The first ``count`` examples of a sampler, solved by a PDE system.

    Parameters are drawn once (about 600 bytes an example). Sources and solutions are made batch by batch on the device,
    in float32.

    Args:
        sampler: the distribution, for one split.
        system: the PDE on the grid of the run.
        count: number of examples.
        device: torch device on which batches are made.
    """

    def __init__(self, sampler: Sampler, system: PDESystem, count: int, device: torch.device | str = "cpu") -> None:
        self.sampler = sampler
        self.system = system
        self._count = count
        self._device = device
        self._parameters: Parameters | None = None

    @property
    def problem(self) -> Problem:
        """The system's problem."""
        return self.system.problem

    def __len__(self) -> int:
        return self._count

    @property
    def parameters(self) -> Parameters:
        """The sampler's parameters, every array (len, …); drawn on first use."""
        if self._parameters is None:
            self._parameters = self.sampler.draw(range(self._count))
        return self._parameters

    @property
    def drawn_bytes(self) -> int:
        """Memory that the drawn parameters take."""
        return sum(values.nbytes for values in (self._parameters or {}).values())

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Realise and solve the examples ``ids`` in float32."""
        drawn = self._drawn(ids)
        inputs = self._realised(drawn)
        return inputs, self.sampler.solve(self.system, drawn, inputs)

    def input_batch(self, ids: Ids) -> Fields:
        """Realise the examples ``ids`` in float32, without solving them."""
        return self._realised(self._drawn(ids))

    def _drawn(self, ids: Ids) -> Parameters:
        index = np.asarray(ids, dtype=np.int64)
        return {name: values[index] for name, values in self.parameters.items()}

    def _realised(self, drawn: Parameters) -> Fields:
        import torch

        return self.sampler.realise(drawn, self.problem.grid, self._device, torch.float32)
