"""Examples that are sampled and solved on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from pdebench_fm.errors import PluginError
from pdebench_fm.interfaces import Examples, Ids, Parameters, PDESystem, Sampler
from pdebench_fm.problem import Channel, Fields, Problem

if TYPE_CHECKING:
    import torch


class SampledExamples(Examples):
    """The first ``count`` examples of a sampler, solved by a PDE system.

    Parameters are drawn once (about 600 bytes an example). Sources and solutions are made batch by batch on the device,
    in float32.

    Args:
        sampler: the distribution, for one split.
        system: the PDE on the grid of the run.
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
            drawn = self.sampler.draw(range(self._count))
            for name, values in drawn.items():
                if np.shape(values)[:1] != (self._count,):
                    wanted = f"an array ({self._count}, …) for {self._count} examples"
                    raise PluginError(
                        f"{_named(self.sampler)}: draw must return {name!r} as {wanted}, got {np.shape(values)}"
                    )
            self._parameters = drawn
        return self._parameters

    @property
    def drawn_bytes(self) -> int:
        """Memory that the drawn parameters take."""
        return sum(values.nbytes for values in (self._parameters or {}).values())

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Realise and solve the examples ``ids`` in float32."""
        drawn = self._drawn(ids)
        made = self._realised(drawn)
        inputs = self._checked("realise", len(ids), made)
        return inputs, self._checked("solve", len(ids), self.sampler.solve(self.system, drawn, made))

    def input_batch(self, ids: Ids) -> Fields:
        """Realise the examples ``ids`` in float32, without solving them."""
        return self._checked("realise", len(ids), self._realised(self._drawn(ids)))

    def _drawn(self, ids: Ids) -> Parameters:
        index = np.asarray(ids, dtype=np.int64)
        return {name: values[index] for name, values in self.parameters.items()}

    def _realised(self, drawn: Parameters) -> Fields:
        import torch

        return self.sampler.realise(drawn, self.problem.grid, self._device, torch.float32)

    def _checked(self, step: Literal["realise", "solve"], count: int, fields: Fields) -> Fields:
        import torch

        problem = self.problem
        who = _named(self.sampler if step == "realise" else self.system)
        channels = problem.inputs if step == "realise" else problem.outputs
        return checked(f"{who}: {step}", channels, fields, (count, problem.grid.size), torch.float32)


def checked(
    who: str, channels: Sequence[Channel], fields: Fields, shape: tuple[int, int], dtype: torch.dtype
) -> Fields:
    """Return the channels of what a plugin made, in order.

    Args:
        who: starts the message.
        shape: number of examples, and points along each side of the grid.
    """
    count, size = shape
    for channel in channels:
        wanted = (count, size, size) if channel.role == "field" else (count,)
        found = fields.get(channel.name)
        if found is None:
            raise PluginError(f"{who} must return {channel.name!r}, got {', '.join(fields) or 'nothing'}")
        if tuple(found.shape) != wanted or found.dtype != dtype:
            limit = "; grids are square" if channel.role == "field" else ""
            got = f"{found.dtype} {tuple(found.shape)}"
            raise PluginError(f"{who} must return {channel.name!r} as {dtype} {wanted}, got {got}{limit}")
    return {channel.name: fields[channel.name] for channel in channels}


def _named(part: Sampler | PDESystem) -> str:
    kind = "sampler" if isinstance(part, Sampler) else "system"
    return f"{kind} {type(part).__name__}"
