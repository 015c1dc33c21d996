"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file in one step: a reader sees the old file or the new one, never a part.

    Yields a temporary path in the same folder. What the block leaves there takes the place of ``path`` when it ends,
    and is removed where it raises. Each call has a name of its own, so that several processes may write one file at
    once: the last one wins. The name is hidden and ends in ``.partial``, whatever ``path`` ends in, so that what a
    killed process leaves is taken for nothing else.
    """
    temporary = path.with_name(f".{uuid4().hex}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # it is not there any more, or never was
            temporary.unlink()
