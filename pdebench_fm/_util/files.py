"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path, *, existing: bool = True) -> Iterator[Path]:
    """Write a file in one step: a reader sees the old file or the new one, never a part.

    Args:
        path: the file.
        existing: whether a file that is there is replaced.

    Raises:
        FileExistsError: a file is there, perhaps since a moment ago, and is not to be replaced.

    Yields a temporary path in the same folder. What the block leaves there takes the place of ``path`` when it ends,
    and is removed where it raises. Each call has a name of its own, so that several processes may write one file at
    once: the last one wins. The name is hidden and ends in ``.partial``, whatever ``path`` ends in, so that what a
    killed process leaves is taken for nothing else.
    """
    temporary = path.with_name(f".{uuid4().hex}.partial")
    try:
        yield temporary
        if existing:
            os.replace(temporary, path)
        else:
            _place(temporary, path)
    finally:
        with suppress(OSError):  # it is not there any more, or never was
            temporary.unlink()


def _place(temporary: Path, path: Path) -> None:
    """Give a file its name unless another has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: all that is left is to look first
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        os.replace(temporary, path)
