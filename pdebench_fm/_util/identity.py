"""The identity of a job: the SHA-256 of its canonical description.

Two jobs are the same exactly if their descriptions are the same plain data, so the text that is hashed must not
depend on the order in which a mapping was filled, on the platform, or on the version of Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the one JSON text of plain data: sorted keys, no spaces, ASCII only.

    Raises:
        ValueError: a number that is not finite.
        TypeError: something that is not plain data; a key that is not a string (JSON would turn it into one silently).

    >>> canonical_json({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    _check_keys(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def job_id(description: Mapping[str, Any]) -> str:
    """Return the id of the job that ``description`` describes completely: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(canonical_json(dict(description)).encode("ascii")).hexdigest()


def _check_keys(value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key of plain data must be a string, got {key!r}")
            _check_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item)
