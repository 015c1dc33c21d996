"""The structure that docs/architecture.md describes, held by the imports themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "pdebench_fm"

# Each layer may import those above it, and itself.
LAYERS = (
    ("errors", "messages", "files", "foreign"),
    ("problem", "identity", "streams", "memory"),
    ("interfaces",),
    ("hookspecs",),
    ("plugins", "arguments"),
    ("data.combine", "data.sampled", "data.hdf5", "yaml_source"),
    ("suite",),
    ("data.sources",),
    ("arms", "jobs", "plan"),
    ("training", "records", "execution", "provenance", "job_store"),
    ("evaluation", "probes", "group", "shift"),
    ("scoring", "curves"),
    ("work",),
    ("runner", "estimate", "tables", "coefficient_use", "loaded"),
    ("figures", "leaderboard"),
    ("api",),
    ("testing",),
    ("cli",),
)
PUBLIC = {"errors", "problem", "interfaces", "hookspecs", "streams", "training", "testing"}


def imports(path: Path) -> Iterator[str]:
    """Modules of pdebench_fm that a file imports anywhere, without the package's own name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pdebench_fm":
            base = node.module.removeprefix("pdebench_fm").lstrip(".")
            if base and (CORE / base.replace(".", "/")).is_dir():
                yield from (f"{base}.{alias.name}" for alias in node.names)
            elif base:
                yield base
            else:
                yield from (alias.name for alias in node.names if not alias.name.startswith("__"))


def layer(module: str) -> int:
    for rank, members in enumerate(LAYERS):
        if any(module == member or module.startswith(member + ".") for member in members):
            return rank
    raise AssertionError(f"{module} belongs to no layer: add it to LAYERS and to docs/architecture.md")


def modules() -> list[tuple[str, Path]]:
    named = [(".".join(path.relative_to(CORE).with_suffix("").parts), path) for path in sorted(CORE.rglob("*.py"))]
    return [(name.removesuffix(".__init__"), path) for name, path in named if name not in ("__init__", "data.__init__")]


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_point_one_way(module: str, path: Path) -> None:
    if module == "__main__":
        return
    layer(module)  # has one
    backwards = [other for other in imports(path) if layer(other) > layer(module)]
    assert not backwards, f"{module} imports {backwards} from a later layer"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_plugins_use_public_names_only(path: Path) -> None:
    assert {module.split(".")[0] for module in imports(path)} <= PUBLIC


def test_the_page_on_architecture_has_the_same_layers() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[a-z_.5]+`(?:, )?)+) \|", page, re.MULTILINE)
    assert tuple(tuple(re.findall(r"`([^`]+)`", row)) for row in rows) == LAYERS


def test_the_core_names_no_model() -> None:
    assert not [path for path in CORE.rglob("*.py") if "fno" in path.read_text(encoding="utf-8").lower()]


def test_no_file_is_too_long_to_hold_in_the_head() -> None:
    long = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in CORE.rglob("*.py")}
    assert {path: lines for path, lines in long.items() if lines > 500} == {}
