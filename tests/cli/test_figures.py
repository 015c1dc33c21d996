"""The distributions that `pdefm figures` knows of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.cli.figures import known_distributions
from pdebench_fm.cli.own_suites import load_suites
from pdebench_fm.scoring.shift import Shifts
from pdebench_fm.suite.reading import load_suite
from tests.support.records import read

SUITES = Path(__file__).parents[2] / "suites"
COMMITTED = read(Path(__file__).parents[2] / "leaderboard" / "records" / "ood_sys3" / "lite" / "fno-64k.jsonl")


def known(*own: Path, **changes: Any) -> Shifts:
    """The distributions that are known of records of the registered suite, with parts of these replaced."""
    update = {"suite_version": load_suite("ood_sys3").version, **changes}
    return known_distributions(load_suites(own))([record.model_copy(update=update) for record in COMMITTED])


def test_they_are_of_the_registered_suite() -> None:
    found = known()
    assert {task: (shown.parameter, shown.ends) for task, shown in found.items()} == {
        "SYS-3(1,5)": ("wavenumber", (1.0, 10.0)),
        "SYS-3(11,15)": ("wavenumber", (1.0, 15.0)),
    }
    assert [value > 0 for value in found["SYS-3(11,15)"].downstream] == [False] * 10 + [True] * 5


@pytest.mark.parametrize(
    "changes", [{"suite": "unheard-of"}, {"suite_version": 1}, {"profile": "huge"}, {"suite": "ood_sys1"}]
)
def test_they_are_not_known_where_name_version_or_profile_is_another(changes: dict[str, object]) -> None:
    assert known(**changes) == {}


def test_a_suite_that_is_given_is_known_as_well(tmp_path: Path) -> None:
    shipped = (SUITES / "ood_sys3.yaml").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(shipped.replace("name: ood_sys3", "name: own"), encoding="utf-8")
    assert known(suite="own") == {}
    assert known(own, suite="own").keys() == {"SYS-3(1,5)", "SYS-3(11,15)"}
