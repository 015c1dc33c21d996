"""The packages that the documentation spells out, file by file, written to disk as a reader would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    "my_model": ROOT / "README.md",
    "my_pde": ROOT / "docs" / "plugins.md",
    "released_model": ROOT / "docs" / "adapter.md",
}
"""Package → the page that has its code."""

_FILE = re.compile(r"^[^\n`]*`([^`\n]+)`[^\n]*:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write(package: str, folder: Path) -> Path:
    """Write every block of a page that follows "`path` …:" to that path, and return the package's folder."""
    target = folder / package
    for name, content in _FILE.findall(PAGES[package].read_text(encoding="utf-8")):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    if package == "released_model":
        shutil.copy(Path(__file__).with_name("released_weights") / "weights.safetensors", target / package)
    return target
