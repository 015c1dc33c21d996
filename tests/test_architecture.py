"""The structure that docs/architecture.md describes, held by the imports themselves."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "pdebench_fm"
PUBLIC = {"errors", "problem", "interfaces", "hookspecs", "streams", "training", "testing"}


def rows() -> dict[str, int]:
    """Room → row of the table in docs/architecture.md, counted from the ground."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d) \| ((?:`[a-z_]+`(?:, )?)+) \|", page, re.MULTILINE)
    return {room: int(row) for row, rooms in found for room in re.findall(r"`([^`]+)`", rooms)}


ROWS = rows()


def rooms() -> list[str]:
    """Folders and modules of the core, the faces `__init__` and `__main__` left out."""
    names = {path.relative_to(CORE).parts[0].removesuffix(".py") for path in CORE.rglob("*.py")}
    return sorted(names - {"__init__", "__main__"})


def imports(path: Path) -> Iterator[str]:
    """Rooms of pdebench_fm that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pdebench_fm":
            if node.module == "pdebench_fm":
                yield from (alias.name for alias in node.names)
            else:
                yield node.module.split(".")[1]


def test_the_table_has_every_room_once() -> None:
    assert sorted(ROWS) == rooms()


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_imports_point_down(path: Path) -> None:
    room = path.relative_to(CORE).parts[0].removesuffix(".py")
    if room in ROWS:
        up = {other for other in imports(path) if other != room and ROWS[other] >= ROWS[room]}
        assert not up, f"{room} (row {ROWS[room]}) imports {up} of its own row or one above"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_plugins_use_public_names_only(path: Path) -> None:
    assert set(imports(path)) <= PUBLIC


def test_no_two_classes_share_a_name() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in CORE.rglob("*.py")}
    classes = [
        (node.name, path.name)
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    counts = Counter(name for name, _ in classes)
    assert [each for each in classes if counts[each[0]] > 1] == []


def test_the_core_names_no_model() -> None:
    assert not [path for path in CORE.rglob("*.py") if "fno" in path.read_text(encoding="utf-8").lower()]


def test_no_file_is_too_long_to_hold_in_the_head() -> None:
    long = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in CORE.rglob("*.py")}
    assert {path: lines for path, lines in long.items() if lines > 400} == {}
