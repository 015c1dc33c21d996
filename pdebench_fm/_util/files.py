"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, *, existing: bool = True) -> Iterator[Path]:
    """Write a file atomically: a reader sees the old file or the new one, never a part.

    Yields a temporary path in the same folder, which replaces ``path`` at the end of the block. If the block raises, it
    is removed. Several processes may write one file at once: the last one wins. A killed process leaves a hidden file
    that ends in ``.partial``.

    Args:
        path: the file.
        existing: whether an existing file may be replaced.

    Raises:
        FileExistsError: there is a file, and it may not be replaced.
    """
    temporary = path.with_name(f".{uuid4().hex}.partial")
    try:
        yield temporary
        if existing:
            os.replace(temporary, path)
        else:
            _place(temporary, path)
    finally:
        with suppress(OSError):  # renamed, or never written
            temporary.unlink()


def remove(path: Path) -> None:
    """Delete a file or a folder if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _place(temporary: Path, path: Path) -> None:
    """Rename a file unless the new name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: look first
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
