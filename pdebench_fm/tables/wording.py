"""How numbers and names are written and ordered, in tables, figures and on the leaderboard."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from pdebench_fm.records.record import Record
from pdebench_fm.records.savings import Gains

_NUMBER = re.compile(r"(\d+(?:\.\d+)?)")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~$#])")


def number(value: float) -> str:
    """Return three significant digits: 0.0123, 1.20, 1.23e-05."""
    return format(value, "#.3g").removesuffix(".")


def mean_gain(gains: Gains) -> str:
    """Return e.g. ``2.10 × (1.90–2.30)``."""
    mean = "–" if gains.mean is None else f"{number(gains.mean)} ×"
    return mean + (f" ({number(gains.interval[0])}–{number(gains.interval[1])})" if gains.interval else "")


def describe_parameters(counts: Sequence[int]) -> str:
    """Return ``67,281 parameters``, or a range if a model's size depends on the problem."""
    if not counts:
        return "parameters unknown"
    low, high = min(counts), max(counts)
    return f"{low:,} parameters" if low == high else f"{low:,} to {high:,} parameters"


def describe_shift(records: Sequence[Record]) -> str:
    """Return the shift of a task and its measured overlap; empty if the shift has no name."""
    overlap = _overlap(records)
    measured = "" if overlap is None else f", overlap {overlap:.2f}"
    return f"shift: {records[0].shift}{measured}" if records[0].shift else ""


def describe_overlap(records: Sequence[Record]) -> str:
    """Return the same in short, e.g. ``med (0.33)``."""
    overlap = _overlap(records)
    return records[0].shift if overlap is None else f"{records[0].shift} ({overlap:.2f})".strip()


def _overlap(records: Sequence[Record]) -> float | None:
    overlaps = [record.overlap for record in records if record.overlap is not None]
    return statistics.median(overlaps) if overlaps else None


def natural(text: str) -> tuple[tuple[tuple[float, str], ...], str]:
    """Sort key that reads numbers as numbers: SYS-1(2.5,7.5) before SYS-1(10,20)."""
    parts = enumerate(_NUMBER.split(text))
    return tuple((float(part), "") if index % 2 else (-1.0, part) for index, part in parts), text


def arm_order(protocol: str) -> tuple[int, str]:
    """Sort key of arms: zero-shot, fine-tune, those of plugins by name, scratch last."""
    places = {"pretraining": 0, "zero-shot": 1, "fine-tune": 2, "scratch": 4}
    return places.get(protocol, 3), protocol


def markdown(rows: Sequence[Mapping[str, str]], left: int) -> str:
    """Return a Markdown table of cells that are already escaped. The first ``left`` columns are left-aligned."""
    from tabulate import tabulate

    align = ["left" if index < left else "right" for index in range(len(rows[0]))]
    return tabulate(rows, headers="keys", tablefmt="pipe", colalign=align, disable_numparse=True)


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, even in a table."""
    return _MARKDOWN.sub(r"\\\1", text)
