"""Paths on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class FilePath(click.Path):
    """A path that is not empty: ``--output "$OUT"`` without OUT would otherwise mean the current folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Refuse an empty path."""
        if not os.fspath(value):
            self.fail("must not be empty; '.' is the current folder", param, ctx)
        return super().convert(value, param, ctx)
