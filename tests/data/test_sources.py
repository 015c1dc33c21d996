from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdefm_spectral.poisson import PoissonSampler

from pdebench_fm.data.sources import few_shot_ids, specify
from pdebench_fm.errors import PluginError, UsageError
from pdebench_fm.plugins import registry
from pdebench_fm.suite import Distribution


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


def test_what_such_a_sampler_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PoissonSampler, "draw", lambda *_: 1 / 0)
    named = Distribution(system="poisson", sampler="poisson", settings={"eigenvalue": [1, 5]})
    with pytest.raises(PluginError, match=r"^sampler 'poisson': ZeroDivisionError: division by zero$"):
        specify(named, registry(), "train", 4, 16, 0)


def test_seeds_choose_different_sets() -> None:
    chosen = [tuple(few_shot_ids(1024, 8, seed, 4)) for seed in range(5)]
    assert len(set(chosen)) == 5
