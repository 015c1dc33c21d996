"""How numbers and names are written, and in which order they stand: the same in tables, figures and the leaderboard."""

from __future__ import annotations

import re
from collections.abc import Sequence

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~$#])")


def number(value: float) -> str:
    """Return three significant digits: 0.0123, 1.20, 1.23e-05."""
    return format(value, "#.3g").removesuffix(".")


def describe_parameters(counts: Sequence[int]) -> str:
    """Return ``67,281 parameters``; the range where a model's size depends on the channels of the problem."""
    if not counts:
        return "parameters unknown"
    low, high = min(counts), max(counts)
    return f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"


def natural(text: str) -> tuple[tuple[tuple[float, str], ...], str]:
    """Sort key that reads numbers as numbers: SYS-1(2.5,7.5) before SYS-1(10,20); texts that differ have two places."""
    parts = enumerate(_NUMBER.split(text))
    return tuple((float(part), "") if index % 2 else (-1.0, part) for index, part in parts), text


def arm_order(protocol: str) -> tuple[int, str]:
    """Sort key of arms: zero-shot, fine-tune, those of plugins by name, scratch last."""
    places = {"pretraining": 0, "zero-shot": 1, "fine-tune": 2, "scratch": 4}
    return places.get(protocol, 3), protocol


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return one Markdown table of cells that are already escaped; the first ``left`` columns are left-aligned."""
    from tabulate import tabulate  # type: ignore[import-untyped, unused-ignore]  # its types are a package of their own

    align = ["left" if index < left else "right" for index in range(len(columns))]
    return str(tabulate(rows, headers=columns, tablefmt="pipe", colalign=align, disable_numparse=True))


def escape_markdown(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, inside a table cell too."""
    return _MARKDOWN.sub(r"\\\1", text)
