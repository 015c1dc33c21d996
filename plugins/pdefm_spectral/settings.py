"""Checks of the settings a suite may give to a sampler of this plugin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

from pdebench_fm.errors import SettingError
from pdebench_fm.interfaces.sampler import SPLITS


def positive_range(setting: str, value: Sequence[float]) -> tuple[float, float]:
    """Return ``value`` as two floats with 0 < low ≤ high, both finite.

    Raises:
        SettingError: it is not such a range.
    """
    ends = _two_numbers(setting, value)
    low, high = float(ends[0]), float(ends[1])
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low <= high):
        raise SettingError(setting, f"must be [low, high], finite, with 0 < low ≤ high, got [{low:g}, {high:g}]")
    return low, high


def positive_integers(setting: str, value: Sequence[int]) -> tuple[int, int]:
    """Return ``value`` as two integers with 1 ≤ low ≤ high (both ends belong to the range).

    Raises:
        SettingError: it is not such a range.
    """
    ends = _two_numbers(setting, value)
    if not all(math.isfinite(end) and end == int(end) for end in ends) or not 1 <= ends[0] <= ends[1]:
        raise SettingError(setting, f"must be [low, high], integers with 1 ≤ low ≤ high, got [{ends[0]}, {ends[1]}]")
    return int(ends[0]), int(ends[1])


def positive_number(setting: str, value: float) -> float:
    """Return ``value`` as a finite float > 0, or raise `SettingError`."""
    if not _is_number(value) or not math.isfinite(value) or value <= 0:
        raise SettingError(setting, f"must be a finite number > 0, got {value!r}")
    return float(value)


def one_of(setting: str, value: str, literal: Any) -> str:
    """Return ``value`` if it is one of the strings of a ``Literal``, or raise `SettingError`."""
    if value not in get_args(literal):
        raise SettingError(setting, f"must be one of {', '.join(get_args(literal))}, got {value!r}")
    return value


def seed_and_split(data_seed: int, split: str) -> tuple[int, str]:
    """Return both as given, or raise `SettingError` for what cannot name a stream."""
    if isinstance(data_seed, bool) or not isinstance(data_seed, int):
        raise SettingError("data_seed", f"must be an integer, got {data_seed!r}")
    if split not in SPLITS:
        raise SettingError("split", f"must be one of {', '.join(SPLITS)}, got {split!r}")
    return data_seed, split


def _two_numbers(setting: str, value: Any) -> tuple[Any, Any]:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise SettingError(setting, f"must be [low, high], got {value!r}")
    if not all(_is_number(end) for end in value):
        raise SettingError(setting, f"must be two numbers [low, high], got {list(value)!r}")
    return value[0], value[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
