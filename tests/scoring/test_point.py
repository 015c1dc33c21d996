from __future__ import annotations

import pytest

from pdebench_fm.errors import DivergedError
from pdebench_fm.scoring.point import choose


def ok(validation: float) -> dict[str, object]:
    return {"status": "ok", "reason": "", "validation": validation}


def diverged(reason: str) -> dict[str, object]:
    return {"status": "diverged", "reason": reason, "validation": None}


def test_the_lowest_validation_error_is_chosen_and_of_equal_ones_the_first() -> None:
    assert choose({"a": ok(0.2), "b": ok(0.1), "c": ok(0.1)}) == "b"


def test_a_trial_that_diverged_is_not_chosen() -> None:
    assert choose({"a": diverged("loss nan"), "b": ok(3.0)}) == "b"


def test_without_trials_nothing_is_chosen() -> None:
    assert choose({}) is None


def test_where_all_diverged_every_reason_is_given_once() -> None:
    with pytest.raises(DivergedError, match=r"^all 3 trials diverged: loss inf; loss nan$"):
        choose({"a": diverged("loss nan"), "b": diverged("loss inf"), "c": diverged("loss nan")})
