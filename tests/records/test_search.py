"""The search of a point for its learning rate."""

from __future__ import annotations

import pytest

from pdebench_fm.records.search import Tried, next_value, search_state


def tried(errors: dict[float, float | None], **others: float) -> list[Tried]:
    return [Tried({"learning_rate": rate, **others}, error) for rate, error in errors.items()]


@pytest.mark.parametrize(
    ("errors", "state", "following"),
    [
        ({1e-3: 0.3, 1e-2: 0.2, 1e-1: 0.4}, "closed", None),
        ({1e-3: 0.1, 1e-2: 0.2, 1e-1: 0.4}, "open-low", 1e-4),
        ({1e-3: 0.3, 1e-2: 0.2, 4e-2: 0.1}, "open-high", 0.16),
        ({1e-2: 0.2, 4e-2: 0.1, 1e-3: 0.3}, "open-high", 0.16),  # whatever the order
        ({1e-3: 0.3, 1e-2: 0.2, 1e-1: None}, "closed", None),  # a trial that diverged closes its end
        ({1e-3: 0.2, 1e-2: 0.2}, "open-low", 1e-4),  # the first of equals is chosen
        ({1e-3: 0.2}, None, None),
        ({1e-3: None, 1e-2: None}, None, None),
        ({}, None, None),
    ],
)
def test_the_next_rate_lies_beyond_the_best_one(
    errors: dict[float, float | None], state: str | None, following: float | None
) -> None:
    assert search_state(tried(errors)) == state
    assert next_value(tried(errors)) == (None if following is None else {"learning_rate": following})


def test_only_trials_alike_in_all_else_are_compared() -> None:
    trials = tried({1e-3: 0.3, 1e-2: 0.2, 1e-1: 0.4}, momentum=0.5) + tried({1e-3: 0.15, 1e-2: 0.1}, momentum=0.9)
    assert next_value(trials) == {"learning_rate": 0.1, "momentum": 0.9}


def test_a_model_without_a_rate_has_nothing_to_search() -> None:
    assert search_state([Tried({}, 0.1)]) is None
    assert search_state([Tried({"depth": 2}, 0.1), Tried({"depth": 3}, 0.2)]) is None
