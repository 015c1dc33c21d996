"""The identity of a job: the SHA-256 of its canonical description.

Equal descriptions give equal ids. So the text that is hashed does not depend on the order of keys, on the platform, or
on the version of Python.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Return the canonical JSON of plain data with text as keys: sorted keys, no spaces, only ASCII.

    >>> canonical_json({"b": [1, 2.5], "a": None})
    '{"a":null,"b":[1,2.5]}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def job_id(description: Mapping[str, Any]) -> str:
    """Return the id of a described job: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(canonical_json(dict(description)).encode("ascii")).hexdigest()
