from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.errors import PluginError
from pdebench_fm.interfaces import Parameters, PDESystem, Sampler
from pdebench_fm.problem import Channel, Fields, Grid, Problem


class Negation(PDESystem):
    """u = −f."""

    def __init__(self, grid: Grid) -> None:
        self._problem = Problem((Channel("source"),), (Channel("solution"),), grid)

    @property
    def problem(self) -> Problem:
        return self._problem

    def solve(self, inputs: Fields) -> Fields:
        return {"solution": -inputs["source"]}

    def residual(self, inputs: Fields, outputs: Fields) -> torch.Tensor:
        return outputs["solution"] + inputs["source"]


class Levels(Sampler):
    """Sources that are constant; example i has the level i."""

    draws = 0

    @property
    def physics(self) -> str:
        return "level"

    def draw(self, ids: Sequence[int]) -> Parameters:
        self.draws += 1
        return {"level": np.asarray(ids, dtype=np.float64)}

    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        level = torch.as_tensor(parameters["level"]).to(device, dtype)
        return {"source": level[:, None, None].expand(-1, grid.size, grid.size).clone()}


class KnowingLevels(Levels):
    """Solves from its parameters, with a mark that tells it from the system."""

    def solve(self, system: PDESystem, parameters: Parameters, inputs: Fields) -> Fields:
        level = torch.as_tensor(parameters["level"]).to(inputs["source"])
        return {"solution": (-level - 0.25)[:, None, None].expand_as(inputs["source"])}


@pytest.mark.parametrize(("sampler", "mark"), [(Levels(), 0.0), (KnowingLevels(), -0.25)])
def test_the_sampler_solves_and_leaves_it_to_the_system_by_default(sampler: Sampler, mark: float) -> None:
    examples = SampledExamples(sampler, Negation(Grid(4)), 10)
    inputs, outputs = examples.batch([7, 2, 2])
    assert inputs["source"][:, 0, 0].tolist() == [7.0, 2.0, 2.0]
    assert outputs["solution"][:, 3, 3].tolist() == [-7.0 + mark, -2.0 + mark, -2.0 + mark]


def test_parameters_are_drawn_once_and_batches_are_float32() -> None:
    sampler = Levels()
    examples = SampledExamples(sampler, Negation(Grid(4)), 10)
    assert len(examples) == 10
    for ids in ([0], [3, 4], range(10)):
        inputs, outputs = examples.batch(ids)
        assert inputs["source"].dtype == outputs["solution"].dtype == torch.float32
        assert inputs["source"].shape == (len(ids), 4, 4)
    assert sampler.draws == 1


class Wide(Levels):
    """Fields with twice as many points along x."""

    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        return {name: value.repeat(1, 1, 2) for name, value in super().realise(parameters, grid, device, dtype).items()}


class Renamed(Levels):
    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        return {"f": super().realise(parameters, grid, device, dtype)["source"]}


class One(Levels):
    def draw(self, ids: Sequence[int]) -> Parameters:
        return {"level": np.zeros(1)}


class More(Levels):
    """Makes more than the system takes."""

    def realise(self, parameters: Parameters, grid: Grid, device: torch.device | str, dtype: torch.dtype) -> Fields:
        made = super().realise(parameters, grid, device, dtype)
        return {**made, "level": torch.as_tensor(parameters["level"], dtype=dtype)}


class Coarse(Negation):
    def solve(self, inputs: Fields) -> Fields:
        return {"solution": inputs["source"][:, ::2, ::2]}


class Alone(Negation):
    def solve(self, inputs: Fields) -> Fields:
        return {"solution": inputs["source"][0]}


@pytest.mark.parametrize(
    ("sampler", "system", "said"),
    [
        (Wide(), Negation, r"sampler Wide: realise must return 'source' as torch.float32 (2, 4, 4), got torch.float32 "
                           "(2, 4, 8); grids are square"),
        (Renamed(), Negation, "sampler Renamed: realise must return 'source', got f"),
        (One(), Negation, "sampler One: draw must return 'level' as an array (10, …) for 10 examples, got (1,)"),
        (Levels(), Coarse, "system Coarse: solve must return 'solution' as torch.float32 (2, 4, 4), got torch.float32 "
                           "(2, 2, 2); grids are square"),
        (Levels(), Alone, "system Alone: solve must return 'solution' as torch.float32 (2, 4, 4), got torch.float32 "
                          "(4, 4); grids are square"),
    ],
)  # fmt: skip
def test_what_a_plugin_makes_has_the_shape_of_the_problem(sampler: Sampler, system: type[Negation], said: str) -> None:
    with pytest.raises(PluginError) as caught:
        SampledExamples(sampler, system(Grid(4)), 10).batch([0, 3])
    assert str(caught.value) == said


def test_what_the_system_does_not_take_is_left_out() -> None:
    inputs, _ = SampledExamples(More(), Negation(Grid(4)), 10).batch([0, 3])
    assert list(inputs) == ["source"]
