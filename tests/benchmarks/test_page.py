"""docs/performance.md says what the raw figures say."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "page", raising=False)
    import page

    return page


def test_the_page_is_what_the_figures_give(page) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.render(text) == text, "run python benchmarks/page.py"


def test_every_table_has_its_place_on_the_page(page) -> None:
    marks = re.findall(r"<!-- (\w+) -->\n", page.PAGE.read_text(encoding="utf-8"))
    assert sorted(mark for mark in marks if mark != "end") == sorted(page.PARTS)


def test_a_mark_without_figures_is_an_error(page) -> None:
    with pytest.raises(KeyError, match="tempo"):
        page.render("<!-- tempo -->\n<!-- end -->")
