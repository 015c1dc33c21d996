"""``pdefm run`` with a family on a suite for families: one command, every size, each in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.family import family_suite

Call = Callable[..., tuple[int, str, str]]
TOO_FINE = "16 modes need a grid of at least 32 points a side, got 16"


def test_every_size_gets_its_table_its_folder_and_its_place_in_the_json(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = family_suite(tmp_path, ("  - {name: C from mixed, pretraining: mixed, downstream: C, shift: none}\n", ""))
    code, out, err = call("run", suite.name, "--model", "fno", "--workers", "1")
    assert code == 0, err
    for name in ("fno-64k", "fno-1m", "fno-16m", "fno-256m"):
        assert (tmp_path / "runs" / "toy" / name / "records.jsonl").exists()
        assert f"records, table and figures: runs/toy/{name}" in err
    assert "[1/11] fno-64k · pre-training poisson" in err
    assert out.index("fno-64k") < out.index("fno-1m") < out.index("fno-256m")
    records = json.loads(call("run", suite.name, "--model", "fno", "--json")[1])
    assert [record["model"] for record in records] == [
        name for name, rows in (("fno-64k", 5), ("fno-1m", 4), ("fno-16m", 4), ("fno-256m", 4)) for _ in range(rows)
    ]
    assert {r["reason"] for r in records if r["model"] == "fno-1m"} == {TOO_FINE}


def test_a_size_that_does_not_fit_is_refused_when_it_is_asked_for_alone(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = call("run", family_suite(tmp_path), "--model", "fno-1m")
    assert ended == (2, "", f"pdefm: fno-1m cannot take this suite: {TOO_FINE}\n")
    assert not (tmp_path / "runs").exists()
