"""A family of toy models in three sizes, one of which no grid of the toy suite can hold, and a suite that scores it."""

from __future__ import annotations

from pathlib import Path

from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.problem import Problem
from pdebench_fm.registry.discovery import Registry, registry
from tests.support.toy import Toy, toy_suite

REASON = "needs a grid of at least 64 points a side"


class Large(Toy):
    """A size for larger grids."""

    def supports(self, problem: Problem) -> str | None:
        return None if problem.grid.size >= 64 else REASON


def with_family() -> Registry:
    """The installed models and a family: ``toys``, and its sizes ``-a`` (middle), ``-b`` (small) and ``-c`` (large)."""
    found = registry()
    for name, kind, width in (("toys", Toy, 3), ("toys-a", Toy, 4), ("toys-b", Toy, 2), ("toys-c", Large, 8)):
        found = found.with_model(ModelEntry(name, "1", kind, "a size", arguments={"width": width}, family="toys"))
    return found


def family_suite(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the toy suite as one for families, fine-tuning left out, each (old, new) replaced; return its path."""
    path = toy_suite(folder)
    text = path.read_text(encoding="utf-8")
    for old, new in (("version: 1\n", "version: 1\nfamily: true\n"), ("fine-tune, ", ""), *changes):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path
