"""How checks are skipped, and run by pytest; the examples they are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pdebench_fm.errors import UnknownNameError
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import Skipped, SmoothExamples, in_pytest
from pdebench_fm.testing.claims import parametrised


def test_what_a_check_skips_pytest_skips() -> None:
    def check() -> None:
        raise Skipped("nothing here")

    with pytest.raises(pytest.skip.Exception, match="nothing here"):
        in_pytest(check)


def test_a_case_of_a_decorator_runs_the_check_it_is_named_after() -> None:
    ran = []

    def check_one(subject: str) -> None:
        ran.append(("one", subject))

    def check_other(subject: str) -> None:
        ran.append(("other", subject))

    def test(check: Any) -> None:
        check()

    decorated = parametrised(lambda: "it", (check_one, check_other))(test)
    cases = decorated.pytestmark[0].args[1]
    for case in reversed(cases):
        test(*case.values)
    assert [case.id for case in cases] == ["one", "other"]
    assert ran == [("other", "it"), ("one", "it")]


def test_the_examples_of_the_checks_do_not_depend_on_their_count() -> None:
    problem = Problem((Channel("source"), Channel("k", "constant")), (Channel("solution"),), Grid(16))
    few, many = SmoothExamples(problem, 2).batch([1]), SmoothExamples(problem, 8).batch([1])
    assert torch.equal(few[1]["solution"], many[1]["solution"])


def test_an_expected_failure_is_xfailed_with_its_reason() -> None:
    def check_one(subject: str) -> None:
        raise AssertionError

    def test(check: Any) -> None:
        check()

    decorated = parametrised(lambda: "it", (check_one,), {"one": "known since 1.0"})(test)
    (mark,) = decorated.pytestmark[0].args[1][0].marks
    assert (mark.name, mark.kwargs["reason"], mark.kwargs["strict"]) == ("xfail", "known since 1.0", True)
    with pytest.raises(UnknownNameError, match="did you mean 'one'"):
        parametrised(lambda: "it", (check_one,), {"onee": "a slip"})
