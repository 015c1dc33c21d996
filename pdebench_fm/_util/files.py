"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file atomically: a reader sees the old file or the new one, never a part.

    Yields a temporary path in the same folder, which replaces ``path`` at the end of the block. If the block raises, it
    is removed. Several processes may write one file at once: the last one wins. A killed process leaves a hidden file
    that ends in ``.partial``.
    """
    temporary = path.with_name(f".{uuid4().hex}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # renamed, or never written
            temporary.unlink()


def remove(path: Path) -> None:
    """Delete a file or a folder if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
