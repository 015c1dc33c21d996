"""Records of searches that went on beyond the rates of the suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.hookspecs import SuiteEntry
from pdebench_fm.leaderboard.audit import conflicts, problems
from pdebench_fm.leaderboard.plans import against_plans
from pdebench_fm.records.record import Record
from tests.support.installed import with_toy
from tests.support.toy import plan_of, run_in, toy_suite


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extended")


@pytest.fixture(scope="module")
def extended(folder: Path) -> list[Record]:
    """The records of a run in which every search may go on for two rates."""
    return run_in(folder / "runs", plan_of(folder, with_toy(), extend=2)).records


def longest(records: list[Record]) -> dict[str, Any]:
    return max(records, key=lambda record: len(record.trials)).model_dump(mode="json", by_alias=True)


def what(data: dict[str, Any]) -> str:
    return "\n".join(problems(Record.model_validate({**data, "search": None})))


def test_what_a_run_wrote_is_accepted(folder: Path, extended: list[Record]) -> None:
    registry = with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(folder, extend=2), ""))
    located = [("here:1", record) for record in extended]
    assert [text for _, record in located for text in problems(record)] == []
    assert list(conflicts([("a:1", r) for r in extended])) == []
    assert list(against_plans(located, registry)) == []


def test_a_search_that_ended_early_is_refused(extended: list[Record]) -> None:
    data = longest(extended)
    data["trials"] = data["trials"][:-1]
    assert "trials: the search would go on with" in what(data)


def test_a_rate_that_the_rule_does_not_give_is_refused(extended: list[Record]) -> None:
    data = longest(extended)
    data["trials"][2]["hyperparameters"]["learning_rate"] *= 1.5
    assert "trials.2: the search would go on with" in what(data)


def test_more_trials_than_the_suite_allows_are_refused(extended: list[Record]) -> None:
    data = longest(extended)
    data["trials"].append({**data["trials"][-1], "job_id": "0" * 64})
    assert "the search would end here" in what(data)


def test_a_trial_with_an_id_of_another_is_refused(folder: Path, extended: list[Record]) -> None:
    registry = with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(folder, extend=2), ""))
    data = longest(extended)
    data["trials"][2]["job_id"] = "0" * 64
    found = [text for _, text in against_plans([("here:1", Record.model_validate(data))], registry)]
    assert found == ["trials: 000000000000… is not the trial that its search adds"]


def test_another_extension_than_the_suites_is_refused(tmp_path: Path, extended: list[Record]) -> None:
    registry = with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(tmp_path, extend=1), ""))
    data = longest(extended)
    found = [text for _, text in against_plans([("here:1", Record.model_validate(data))], registry)]
    assert "job.extend: must be 1, as in toy v1, got 2" in found


def test_a_search_that_contradicts_its_trials_is_refused(extended: list[Record]) -> None:
    data = longest(extended)
    data["search"] = "closed" if data["search"] != "closed" else "open-low"
    with pytest.raises(ValueError, match="search must be"):
        Record.model_validate(data)
