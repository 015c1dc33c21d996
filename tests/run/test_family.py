"""A family of models on a suite for families: every size is a model of its own, and one that does not fit says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import pdebench_fm
from pdebench_fm import leaderboard
from pdebench_fm.errors import UnknownNameError, UnsupportedError, UsageError
from pdebench_fm.run.prepare import prepare
from tests.support.family import REASON, family_suite, with_family
from tests.support.records import read
from tests.support.toy import toy_suite


@pytest.fixture(autouse=True)
def _family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdebench_fm.run.prepare.registry", with_family)


def names(model: str, suite: Path | str, **options: object) -> list[str]:
    return [one.model.name for one in prepare(model, suite, device="cpu", **options)]  # type: ignore[arg-type]


def test_a_family_is_its_registered_sizes_smallest_first(tmp_path: Path) -> None:
    assert names("toys", family_suite(tmp_path)) == ["toys-b", "toys-a", "toys-c"]


def test_the_sizes_of_the_paper_are_in_its_order() -> None:
    assert names("fno", "scaling", profile="smoke") == ["fno-64k", "fno-1m", "fno-16m", "fno-256m"]


def test_a_member_is_that_member_alone(tmp_path: Path) -> None:
    assert names("toys-a", family_suite(tmp_path)) == ["toys-a"]
    assert names("zero", family_suite(tmp_path)) == ["zero"]


def test_where_the_suite_scores_no_families_the_name_is_one_model(tmp_path: Path) -> None:
    assert names("toys", toy_suite(tmp_path)) == ["toys"]


def test_every_member_is_the_model_it_is_alone(tmp_path: Path) -> None:
    suite = family_suite(tmp_path)
    middle = next(one for one in prepare("toys", suite, device="cpu") if one.model.name == "toys-a")
    (alone,) = prepare("toys-a", suite, device="cpu")
    assert list(middle.jobs) == list(alone.jobs)


def test_arguments_that_make_two_sizes_the_same_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="toys-a and toys-b are the same model"):
        prepare("toys", family_suite(tmp_path), arguments={"width": 7}, device="cpu")


def test_a_size_that_the_grid_cannot_hold_is_unsupported_rows_and_the_others_are_scored(tmp_path: Path) -> None:
    result = pdebench_fm.evaluate("toys", family_suite(tmp_path), device="cpu", output=tmp_path / "runs")
    assert result.complete
    assert result.folder == tmp_path / "runs" / "toy"
    expected = {"toys-b": 2 + 2 * (1 + 3), "toys-a": 2 + 2 * (1 + 3), "toys-c": 2 * (1 + 3)}  # no pre-training of it
    written = {name: read(result.folder / name / "records.jsonl") for name in expected}
    assert {name: len(lines) for name, lines in written.items()} == expected
    assert {r.key: r for lines in written.values() for r in lines} == {r.key: r for r in result.records}
    assert [r.model for r in result.records] == [name for name, rows in expected.items() for _ in range(rows)]
    assert {(r.status, r.reason) for r in written["toys-c"]} == {("unsupported", REASON)}
    assert {r.status for name in ("toys-a", "toys-b") for r in written[name]} == {"ok"}
    again = pdebench_fm.evaluate("toys", family_suite(tmp_path), device="cpu", output=tmp_path / "runs")
    assert not again.changed
    added = leaderboard.add(tmp_path / "board", [result.folder])  # the rows of what is unsupported, too
    assert added.added == sum(expected.values())


def test_a_size_asked_for_alone_is_refused_before_any_work(tmp_path: Path) -> None:
    for call in (prepare,):
        with pytest.raises(UnsupportedError, match=f"^toys-c cannot take this suite: {REASON}$"):
            call("toys-c", family_suite(tmp_path), device="cpu")


def test_a_family_none_of_whose_sizes_fits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.support.toy import Toy

    monkeypatch.setattr(Toy, "supports", lambda self, problem: REASON)
    with pytest.raises(UnsupportedError, match=f"^toys-b cannot take this suite: {REASON}$"):
        prepare("toys", family_suite(tmp_path), device="cpu")


def test_what_makes_no_sense_for_a_family_is_refused(tmp_path: Path) -> None:
    suite = family_suite(tmp_path)
    with pytest.raises(UsageError, match=r"toys is a family; name one of toys-b, toys-a, toys-c$"):
        prepare("toys", suite, pretrained="weights.safetensors")
    with pytest.raises(UnknownNameError, match="did you mean 'toys'"):
        prepare("toyz", suite, device="cpu")
