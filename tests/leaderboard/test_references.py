"""Gains over what others reach without a model's pre-training."""

from __future__ import annotations

from typing import Any

import pytest

from pdebench_fm.leaderboard.references import References
from pdebench_fm.records.record import Record
from tests.support.records import make_record, make_trial


def arm(model: str, protocol: str, error: float, validation: float = 0.1, **changes: Any) -> Record:
    return make_record(model, protocol=protocol, error=error, trials=(make_trial(1e-3, validation),), **changes)


MINE = [arm("mine", "fine-tune", 0.1), arm("mine", "scratch", 0.4, validation=0.4)]


def test_the_best_scratch_arm_is_chosen_by_validation_error_not_by_test_error() -> None:
    others = [arm("lucky", "scratch", 0.15, validation=0.3), arm("sound", "scratch", 0.2, validation=0.2)]
    found = References([*MINE, *others], {"mine", "lucky", "sound"}).compare(MINE)
    assert found.best_scratch == pytest.approx(2)


def test_a_model_without_a_rank_is_no_reference() -> None:
    others = [arm("unfinished", "scratch", 0.01, validation=0.01)]
    assert References([*MINE, *others], {"mine"}).compare(MINE).best_scratch == pytest.approx(4)


def test_a_baseline_takes_no_gradient_steps() -> None:
    regression = arm("regression", "scratch", 0.3, validation=0.9, steps=0)
    found = References([*MINE, regression], {"mine", "regression"}).compare(MINE)
    assert (found.best_scratch, found.baseline) == (pytest.approx(4), pytest.approx(3))
    assert References(MINE, {"mine"}).compare(MINE).baseline is None


def test_medians_over_seeds_are_compared_and_n_are_averaged_geometrically() -> None:
    mine = [arm("mine", "fine-tune", error, seed=seed) for seed, error in enumerate([0.1, 0.2, 0.9])]
    mine += [arm("mine", "scratch", 0.8, seed=seed) for seed in range(3)]
    mine += [arm("mine", "fine-tune", 0.1, examples=64), arm("mine", "scratch", 0.1, examples=64)]
    assert References(mine, {"mine"}).compare(mine).best_scratch == pytest.approx(2)


def test_cells_in_which_pre_training_hurts_have_their_intervals_apart() -> None:
    worse = [arm("mine", "fine-tune", 0.2, examples=8), arm("mine", "scratch", 0.1, examples=8)]
    close = [arm("mine", "fine-tune", 0.11, examples=32), arm("mine", "scratch", 0.1, examples=32)]
    found = References([*MINE, *worse, *close], {"mine"}).compare([*MINE, *worse, *close])
    assert (found.hurt, found.compared) == ((("SYS-1(5,10)", 8),), 3)


def test_a_diverged_scratch_arm_is_no_reference() -> None:
    diverged = make_record("mine", protocol="scratch", status="diverged")
    found = References([MINE[0], diverged], {"mine"}).compare([MINE[0], diverged])
    assert (found.best_scratch, found.hurt) == (None, ())
