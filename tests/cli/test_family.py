"""``pdefm run`` with a family on a suite for families: one command, every size, each in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.command import pdefm
from tests.support.family import family_suite

TOO_FINE = "16 modes need a grid of at least 32 points a side, got 16"


def test_every_size_gets_its_table_its_folder_and_its_place_in_the_json(tmp_path: Path) -> None:
    suite = family_suite(tmp_path, ("  - {name: C from mixed, pretraining: mixed, downstream: C, shift: none}\n", ""))
    first = pdefm("run", suite.name, "--model", "fno", "--workers", "1", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    for name in ("fno-64k", "fno-1m", "fno-16m", "fno-256m"):
        assert (tmp_path / "runs" / "toy" / name / "records.jsonl").exists()
        assert f"records, table and figures: runs/toy/{name}" in first.stderr
    assert "[1/11] fno-64k · pre-training poisson" in first.stderr
    assert first.stdout.index("fno-64k") < first.stdout.index("fno-1m") < first.stdout.index("fno-256m")
    again = pdefm("run", suite.name, "--model", "fno", "--json", folder=tmp_path)
    records = json.loads(again.stdout)
    assert [record["model"] for record in records] == [
        name for name, rows in (("fno-64k", 5), ("fno-1m", 4), ("fno-16m", 4), ("fno-256m", 4)) for _ in range(rows)
    ]
    assert {r["reason"] for r in records if r["model"] == "fno-1m"} == {TOO_FINE}


def test_a_size_that_does_not_fit_is_refused_when_it_is_asked_for_alone(tmp_path: Path) -> None:
    suite = family_suite(tmp_path)
    ended = pdefm("run", suite.name, "--model", "fno-1m", folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"pdefm: fno-1m cannot take this suite: {TOO_FINE}\n"
    assert not (tmp_path / "runs").exists()
