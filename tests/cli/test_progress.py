"""The time left that a run shows."""

from __future__ import annotations

import pytest

from pdebench_fm.cli.progress import Remaining


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_time_before_the_first_report_does_not_count() -> None:
    clock = Clock()
    left = Remaining({"a": 100, "b": 100}, clock)
    assert left.seconds() is None
    clock.now = 60  # workers start, examples are made
    left.reported("a", 1, 100)
    assert left.seconds() is None
    clock.now = 61
    left.reported("a", 2, 100)
    assert left.seconds() == pytest.approx(198)


def test_what_an_earlier_run_has_done_is_neither_left_nor_fast() -> None:
    clock = Clock()
    left = Remaining({"a": 100}, clock)
    left.reported("a", 51, 100)
    clock.now = 10
    left.reported("a", 61, 100)
    assert left.seconds() == pytest.approx(39)


def test_jobs_that_end_between_two_polls_count() -> None:
    clock = Clock()
    left = Remaining(dict.fromkeys("abcd", 100), clock)
    for job in "abc":
        clock.now += 5
        left.reported(job, 1, 1)
    assert left.seconds() == 5


def test_scores_take_no_training() -> None:
    left = Remaining({"a": 0})
    left.reported("a", 1, 1)
    assert left.seconds() is None
