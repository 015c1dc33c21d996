"""The identity of a job: the SHA-256 of its canonical description.

Equal descriptions give equal ids. So the text that is hashed does not depend on the order of keys, on the platform, or
on the version of Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any, *, parsed: bool = False) -> str:
    """Return the canonical JSON of plain data: sorted keys, no spaces, only ASCII.

    Args:
        value: the data.
        parsed: whether it was read from JSON, so that all keys are known to be strings.

    Raises:
        ValueError: a number that is not finite.
        TypeError: something that is not plain data; a key that is not a string (JSON would turn it into one silently).

    >>> canonical_json({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    if not parsed:
        _check_keys(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def job_id(description: Mapping[str, Any], *, parsed: bool = False) -> str:
    """Return the id of a described job: 64 lower-case hexadecimal digits; see `canonical_json` for ``parsed``."""
    return hashlib.sha256(canonical_json(dict(description), parsed=parsed).encode("ascii")).hexdigest()


def _check_keys(value: Any) -> None:
    waiting = [value]
    while waiting:  # no call for each value: suites have 100,000 jobs
        items = waiting.pop()
        if isinstance(items, dict):  # json takes no other mapping
            for key in items:
                if not isinstance(key, str):
                    raise TypeError(f"a key of plain data must be a string, got {key!r}")
            items = items.values()
        elif not isinstance(items, (list, tuple)):
            continue
        waiting += [item for item in items if isinstance(item, (dict, list, tuple))]
