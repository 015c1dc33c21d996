"""A tiny plugin: one system with its sampler, and everything that can be wrong with a sampler."""

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm.errors import SettingError
from pdebench_fm.hookspecs import ProtocolEntry, SamplerEntry, SuiteEntry, SystemEntry, hookimpl
from pdebench_fm.interfaces import Parameters, PDESystem, Sampler, Split
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.registry.discovery import Registry


class Toy(PDESystem):
    """k u = f."""

    def __init__(self, grid: Grid) -> None:
        self._problem = Problem((Channel("source"), Channel("k", "constant")), (Channel("solution"),), grid, True)

    @property
    def problem(self) -> Problem:
        return self._problem

    def solve(self, inputs: Fields) -> Fields:
        return {"solution": inputs["source"] / inputs["k"][:, None, None]}

    def residual(self, inputs: Fields, outputs: Fields) -> Any:
        return outputs["solution"] * inputs["k"][:, None, None] - inputs["source"]


class ToySampler(Sampler):
    """f = i + 1, k uniform in a range."""

    def __init__(self, level: tuple[float, float], steps: int = 3, *, data_seed: int, split: Split) -> None:
        if level[0] > level[1]:
            raise SettingError("level", f"must be [low, high] with low ≤ high, got {list(level)}")
        self._level = level
        self._seed = data_seed

    @property
    def physics(self) -> str:
        return "k"

    def draw(self, ids: Sequence[int]) -> Parameters:
        index = np.asarray(ids, dtype=np.float64)
        low, high = self._level
        return {"source": index + 1, "k": low + (high - low) * (index % 7) / 7}

    def realise(self, parameters: Parameters, grid: Grid, device: Any, dtype: Any) -> Fields:
        import torch

        given = {name: torch.as_tensor(values, dtype=dtype) for name, values in parameters.items()}
        plane = torch.ones(grid.size, grid.size, dtype=dtype)
        return {"source": given["source"][:, None, None] * plane, "k": given["k"]}


class FailingSampler(ToySampler):
    """Cannot draw example 8."""

    def draw(self, ids: Sequence[int]) -> Parameters:
        if 8 in ids:
            raise ValueError("no\nnumber")
        return super().draw(ids)


class BrokenSampler:
    """Raises something that is no PdefmError."""

    def __init__(self, *, data_seed: int, split: str) -> None:
        raise ZeroDivisionError("division by zero\x1b[2J")


@hookimpl
def pdefm_systems() -> list[SystemEntry]:
    return [
        SystemEntry("toy", "1", Toy, "k u = f", sampler="toy"),
        SystemEntry("bare", "1", Toy, "without a sampler of its own"),
        SystemEntry("orphan", "1", Toy, "its sampler cannot be imported", sampler="absent"),
    ]


@hookimpl
def pdefm_samplers() -> list[SamplerEntry]:
    return [
        SamplerEntry("toy", "2", ToySampler, "f = i + 1"),
        SamplerEntry("failing", "1", FailingSampler, "cannot draw every example"),
        SamplerEntry("broken", "1", BrokenSampler, "cannot be made"),
        SamplerEntry("absent", "1", "no_such_module_anywhere:Sampler", "cannot be imported"),
    ]


@hookimpl
def pdefm_protocols() -> list[ProtocolEntry]:
    return [ProtocolEntry(name, "1", object, name) for name in ("zero-shot", "fine-tune", "scratch")]


@hookimpl
def pdefm_suites() -> list[SuiteEntry]:
    return [SuiteEntry("shipped", Path(__file__).with_name("shipped.yaml"), "a suite of toys")]


def fake_registry() -> Registry:
    """A registry that holds this plugin alone."""
    return Registry([EntryPoint("fake", __name__, "pdebench_fm")])
