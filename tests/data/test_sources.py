from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdebench_fm.data.combine import size_in_memory
from pdebench_fm.data.open import SetCache, SetSpec, few_shot_ids, make_system, open_set
from pdebench_fm.errors import PluginError, UsageError
from pdebench_fm.hookspecs import SystemEntry
from pdebench_fm.plan.sets import specify
from pdebench_fm.problem import Grid
from pdebench_fm.registry.discovery import registry
from pdebench_fm.suite.schema import Distribution
from tests.support.fake_plugin import Toy


@given(st.integers(4, 200), st.integers(0, 5))
def test_few_shot_sets_nest_and_never_repeat(pool: int, seed: int) -> None:
    sets = [few_shot_ids(pool, size, seed, 4) for size in (1, 2, pool // 2, pool)]
    for small, large in pairwise(sets):
        assert np.array_equal(small, large[: len(small)])
    assert sorted(sets[-1]) == list(range(pool))


@pytest.mark.parametrize("size", [4, 8, 32, 128])
def test_every_few_shot_set_holds_all_strata_alike(size: int) -> None:
    counts = np.bincount(few_shot_ids(1024, size, 0, 4) % 4, minlength=4)
    assert counts.tolist() == [size // 4] * 4


def test_a_sampler_of_another_system_is_refused_before_any_work() -> None:
    mixed_up = Distribution(system="helmholtz", sampler="poisson", settings={"eigenvalue": [1, 5]})
    with pytest.raises(UsageError, match=r"'poisson' does not go with system 'helmholtz': it makes .* and not omega"):
        specify(mixed_up, registry(), "train", 4, 16, 0)


def test_seeds_choose_different_sets() -> None:
    chosen = [tuple(few_shot_ids(1024, 8, seed, 4)) for seed in range(5)]
    assert len(set(chosen)) == 5


def pool(eigenvalue: list[float]) -> SetSpec:
    return specify(Distribution(system="poisson", settings={"eigenvalue": eigenvalue}), registry(), "train", 100, 16, 0)


POOL, SECOND, THIRD = (pool([low, low + 1]) for low in (1, 2, 3))


@pytest.mark.parametrize("limit", [0, 2**30])
def test_a_set_is_opened_once_whether_or_not_its_fields_are_kept(limit: int) -> None:
    cache = SetCache(registry(), "cpu", limit)
    opened = cache.open(POOL)
    opened.examples.batch([3, 5])
    assert cache.open(POOL) is opened


def test_sets_that_were_not_used_for_longest_make_room() -> None:
    size = size_in_memory(open_set(POOL, registry(), "cpu").examples)
    cache = SetCache(registry(), "cpu", 2 * size)
    first, second = cache.open(POOL), cache.open(SECOND)
    assert cache.open(POOL) is first
    cache.open(THIRD)
    assert cache.open(POOL) is first
    assert cache.open(SECOND) is not second


def test_what_was_drawn_counts_if_the_fields_are_not_kept() -> None:
    cache = SetCache(registry(), "cpu", 1000)
    first, second = cache.open(POOL), cache.open(SECOND)
    assert (cache.open(POOL), cache.open(SECOND)) == (first, second)
    first.examples.batch([0])  # draws 100 examples, which take more than 1,000 bytes
    cache.open(SECOND)
    cache.open(THIRD)
    assert cache.open(POOL) is not first


class Doubled(Toy):
    """Solves on a grid of its own."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(Grid(2 * grid.size))


def test_a_system_keeps_the_grid_of_the_run() -> None:
    wider = registry().with_entry("systems", SystemEntry("doubled", "1", Doubled, "on another grid", sampler="poisson"))
    with pytest.raises(PluginError, match="system 'doubled' must keep the grid's 16 points a side, its problem has 32"):
        make_system("doubled", wider, Grid(16))
