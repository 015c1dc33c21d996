"""Text for people: values and errors shown safely, times and sizes in plain units, the width of a line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import Any

from pdebench_fm.errors import PdefmError


def printable(text: str, limit: int = 200) -> str:
    """Escape control characters and cut to ``limit`` characters, so that a terminal shows one safe line."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def one_line(text: object) -> str:
    """Replace each run of white space by one space."""
    return " ".join(str(text).split())


def quoted(text: object) -> str:
    """Return text of a plugin as one safe line, for a record or a terminal."""
    return printable(one_line(text), 500)


def named(error: BaseException) -> str:
    """Return an error as one line, with its type: ``KeyError: 'grid'``."""
    return f"{type(error).__name__}: {one_line(error)}"


def reason_of(error: BaseException) -> str:
    """Return an error as one line, with its type unless it is a `PdefmError`."""
    return one_line(error) if isinstance(error, PdefmError) else named(error)


def show(value: Any) -> str:
    """Return a value as error messages print it: short, on one line, lists as in YAML."""
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item) for item in value[:9]) + (", …]" if len(value) > 9 else "]")
    elif isinstance(value, Mapping):
        text = "a mapping"
    elif value is None:
        text = "nothing"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int) and abs(value) >= 10**30:
        text = "a number beyond 1e30"
    else:
        text = repr(value)
    return printable(text, 80)


def counted(number: int, noun: str) -> str:
    """Return ``1 cell`` or ``1,234 cells``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """Return seconds in a unit that people use, from ``42 s`` to ``540 years``."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3600, 48 * 3600), ("days", 86400, 700 * 86400)):
        if seconds < most:
            shown = seconds / size
            return f"{shown:.1f} {unit}" if unit == "h" and shown < 10 else f"{shown:.0f} {unit}"
    return f"{seconds / (365.25 * 86400):,.0f} years"


def megabytes(size: float) -> str:
    """Return a number of bytes as ``3.2 MB`` or ``1.4 GB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def terminal_width() -> int:
    """Return the columns of the terminal on standard output; without one, so many that nothing is folded."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
