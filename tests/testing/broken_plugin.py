"""A plugin of systems for k u = f, most of them wrong in one way, and of a sampler that can be told to be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pdebench_fm.errors import UsageError
from pdebench_fm.hookspecs import MetricEntry, ProtocolEntry, SamplerEntry, SystemEntry, hookimpl
from pdebench_fm.interfaces import Parameters, PDESystem, Sampler, Split
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.streams import Stream

LARGE = 1e13
"""k is this large, so that f is rounding beside it."""


class Good(PDESystem):
    """k u = f point by point, its first input field not the right-hand side."""

    def __init__(self, grid: Grid) -> None:
        self._problem = Problem((Channel("k"), Channel("f")), (Channel("u"),), grid)

    @property
    def problem(self) -> Problem:
        return self._problem

    def solve(self, inputs: Fields) -> Fields:
        return {"u": inputs["f"] / inputs["k"]}

    def residual(self, inputs: Fields, outputs: Fields) -> Tensor | None:
        return outputs["u"] * inputs["k"] - inputs["f"]

    def residual_scale(self, inputs: Fields) -> Tensor:
        return inputs["f"].flatten(1).norm(dim=1)


class DefaultScale(Good):
    def residual_scale(self, inputs: Fields) -> Tensor:
        return PDESystem.residual_scale(self, inputs)


class ReturnsZero(DefaultScale):
    def solve(self, inputs: Fields) -> Fields:
        return {"u": torch.zeros_like(inputs["f"])}


class ZeroScale(Good):
    def residual_scale(self, inputs: Fields) -> Tensor:
        return torch.zeros_like(inputs["f"][:, 0, 0])


class Iterative(Good):
    """Stops at 1e-7."""

    def solve(self, inputs: Fields) -> Fields:
        return {"u": inputs["f"] / inputs["k"] * (1 + 1e-7)}


class IterativeAndSaysSo(Iterative):
    solver_tolerance = 1e-6


class SaysAnythingGoes(Good):
    solver_tolerance = 1.0


class SmallForEverything(Good):
    def residual(self, inputs: Fields, outputs: Fields) -> Tensor | None:
        return 1e-12 * (outputs["u"] * inputs["k"] - inputs["f"])


class Map(Good):
    """A map that has no residual on the grid."""

    def residual(self, inputs: Fields, outputs: Fields) -> Tensor | None:
        return PDESystem.residual(self, inputs, outputs)


class Bounded(Good):
    """On a grid of its own kind: its first and last points are no neighbours."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(replace(grid, periodic=False))


class OneForAll(Map):
    def solve(self, inputs: Fields) -> Fields:
        return {"u": torch.ones_like(inputs["f"])}


class Vanishes(Map):
    """Some solutions are zero everywhere."""

    def solve(self, inputs: Fields) -> Fields:
        f = inputs["f"]
        return {"u": torch.where(f[:, :1, :1] > 0.5, f, 0)}


class BlowsUp(Map):
    def solve(self, inputs: Fields) -> Fields:
        return {"u": inputs["f"] / 0}


class Coupled(Map):
    """Each solution is scaled by the largest of its batch, as by a time step that all share."""

    def solve(self, inputs: Fields) -> Fields:
        return {"u": inputs["f"] / inputs["f"].abs().max()}


Fault = Literal["", "data_seed", "split", "company", "ids", "solve", "grid", "scale", "bounded", "nan", "double"]


class Waves(Sampler):
    """f = c₁ cos 2πx + c₂ sin 2πy + 1/2 cos 10πx, k of the order `LARGE`.

    Args:
        fault: what it ignores, or must not depend on and does; ``scale`` changes f with the grid by little, as
            dividing by the largest value found on the grid would; ``solve`` makes solutions twice as large as the
            system's; ``bounded`` takes no periodic grid, which is right for the system `Bounded`; ``nan`` gives a value
            that is not finite; ``double`` ignores the precision.
        data_seed: names the data set.
        split: names the part of it.
    """

    def __init__(self, fault: Fault = "", *, data_seed: int, split: Split) -> None:
        self._fault = fault
        named = {"data_seed": data_seed, "split": split}
        self._stream = Stream({name: value for name, value in named.items() if name != fault}, 3)

    @property
    def physics(self) -> str:
        return "level"

    def draw(self, ids: Sequence[int]) -> Parameters:
        drawn = self._stream.uniform(range(len(ids)) if self._fault == "ids" else ids)
        if self._fault == "company":
            drawn = drawn + 0.1 * len(ids)
        return {"level": 1 + drawn[:, 0], "waves": drawn[:, 1:] - 0.5}

    def realise(self, parameters: Parameters, grid: Grid, device: Any, dtype: Any) -> Fields:
        if self._fault == "bounded" and grid.periodic:
            raise UsageError("periodic grids are not for me")
        axis = 2 * np.pi * np.arange(grid.size) / grid.size
        first, second = (parameters["waves"][:, i, None, None] for i in range(2))
        f = first * np.cos(axis) + second * np.sin(axis)[:, None] + 0.5 * np.cos(5 * axis)
        if self._fault == "grid":
            f = f + np.random.default_rng(grid.size).standard_normal((grid.size, grid.size))
        if self._fault == "scale":
            f = f * (1 + 2 / grid.size)
        k = LARGE * parameters["level"][:, None, None] * (2 + np.cos(axis))
        k = np.broadcast_to(k, f.shape)
        if self._fault == "nan":
            f[0, 0, 0] = np.nan
        if self._fault == "double":
            dtype = torch.float64
        return {name: torch.tensor(values).to(device, dtype) for name, values in (("k", k), ("f", f))}

    def solve(self, system: PDESystem, parameters: Parameters, inputs: Fields) -> Fields:
        factor = 2 if self._fault == "solve" else 1
        return {name: factor * value for name, value in super().solve(system, parameters, inputs).items()}


SYSTEMS: dict[str, type[Good]] = {
    kind.__name__.lower(): kind
    for kind in (
        Good,
        DefaultScale,
        ReturnsZero,
        ZeroScale,
        Iterative,
        IterativeAndSaysSo,
        SaysAnythingGoes,
        SmallForEverything,
        Map,
        Bounded,
        OneForAll,
        Vanishes,
        BlowsUp,
        Coupled,
    )
}


class CannotBeMade:
    def __init__(self) -> None:
        raise ZeroDivisionError("no\nluck")


@hookimpl
def pdefm_systems() -> list[SystemEntry]:
    return [SystemEntry(name, "1", kind, "k u = f", sampler="waves") for name, kind in SYSTEMS.items()]


@hookimpl
def pdefm_samplers() -> list[SamplerEntry]:
    return [SamplerEntry("waves", "1", Waves, "a few waves")]


@hookimpl
def pdefm_metrics() -> list[MetricEntry]:
    return [MetricEntry("unlucky", "1", CannotBeMade, "raises")]


@hookimpl
def pdefm_protocols() -> list[ProtocolEntry]:
    return [ProtocolEntry("unlucky", "1", CannotBeMade, "raises")]
