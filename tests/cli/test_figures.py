"""Where `pdefm figures` has the distributions above its panels from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.cli import figures as command
from pdebench_fm.scoring.shift import Shifts

COMMITTED = Path(__file__).parents[2] / "leaderboard" / "records" / "ood_sys3" / "lite" / "fno-64k.jsonl"


@pytest.fixture
def known(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Shifts]:
    """The distributions that the command knows of the committed records, with parts of these replaced."""

    def find(*arguments: object, **changes: object) -> Shifts:
        found: list[Shifts] = []

        def draw_kinds(records: Any, output: Path, kinds: Any, realised: Any) -> dict[str, list[Path]]:
            found.append(realised(records))
            return {"errors": [output / "a.png", output / "a.pdf"]}

        monkeypatch.setattr(command, "draw_kinds", draw_kinds)
        file = tmp_path / "records.jsonl"
        lines = COMMITTED.read_text(encoding="utf-8").splitlines()
        file.write_text("".join(json.dumps({**json.loads(line), **changes}) + "\n" for line in lines), encoding="utf-8")
        assert call("figures", file, "--kind", "errors", "--output", tmp_path / "figures", *arguments)[0] == 0
        (shifts,) = found
        return shifts

    return find


def test_they_are_of_the_registered_suite(known: Callable[..., Shifts]) -> None:
    found = known()
    assert {task: (shown.parameter, shown.ends) for task, shown in found.items()} == {
        "SYS-3(1,5)": ("wavenumber", (1.0, 10.0)),
        "SYS-3(11,15)": ("wavenumber", (1.0, 15.0)),
    }
    assert [value > 0 for value in found["SYS-3(11,15)"].downstream] == [False] * 10 + [True] * 5


@pytest.mark.parametrize(
    "changes", [{"suite": "unheard-of"}, {"suite_version": 1}, {"profile": "huge"}, {"suite": "ood_sys1"}]
)
def test_they_are_not_known_where_name_version_or_profile_is_another(
    known: Callable[..., Shifts], changes: dict[str, object]
) -> None:
    assert known(**changes) == {}


def test_a_suite_that_is_given_is_known_as_well(known: Callable[..., Shifts], tmp_path: Path) -> None:
    shipped = (COMMITTED.parents[4] / "suites" / "ood_sys3.yaml").read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(shipped.replace("name: ood_sys3", "name: own"), encoding="utf-8")
    assert known(suite="own") == {}
    assert known("--suite", own, suite="own").keys() == {"SYS-3(1,5)", "SYS-3(11,15)"}
