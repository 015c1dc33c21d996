"""docs/cost.md shows what the command that it names prints."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_shows_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(ROOT / "benchmarks" / "cost.py")
    monkeypatch.setattr(sys, "argv", [path, "--rows", "--suite", "ood_sys3", "--model", "fno-64k", "fno-256m"])
    runpy.run_path(path, run_name="__main__")
    printed = capsys.readouterr().out
    page = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    rows = [line for line in printed.splitlines() if line.startswith("| ood_sys3 |")]
    assert len(rows) == 2
    assert [row for row in rows if row not in page.splitlines()] == []
    assert "python benchmarks/cost.py > docs/cost.md" in page


def test_the_page_has_every_study_and_size() -> None:
    page = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    suites = [path.stem for path in (ROOT / "suites").glob("*.yaml") if "  paper: " in path.read_text(encoding="utf-8")]
    for suite in set(suites) - {"released"}:
        for model in ("fno-64k", "fno-1m", "fno-16m", "fno-256m"):
            assert f"| {suite} | {model} |" in page
