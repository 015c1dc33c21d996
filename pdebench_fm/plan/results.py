"""The form of ``result.json``: plain data, sealed by its SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pdebench_fm._util.identity import canonical_json

_SEAL = "sha256"
_ALWAYS = {"status", "reason", "device", "threads", "versions", "commit"}
_OF_A_FIT = {"validation", "epochs", "steps", "best_epoch", "train_seconds", "data_seconds"}


def to_text(result: Mapping[str, Any], job_id: str) -> str:
    """Return the text of a job's ``result.json``; what is no plain data, or not finite, is refused."""
    plain = json.loads(canonical_json(dict(result)))  # as it will be read: a key of a plugin's may be a number
    sealed = {**plain, _SEAL: _seal(plain, job_id)}
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n"


def from_text(text: str | bytes, job_id: str) -> dict[str, Any]:
    """Return the result of a job; ValueError if it is damaged, of another job, or lacks a key."""
    try:
        result = json.loads(text)
    except RecursionError:
        raise ValueError("brackets without end") from None
    if not isinstance(result, dict) or _SEAL not in result:
        raise ValueError("it has no checksum")
    if result.pop(_SEAL) != _seal(result, job_id):
        raise ValueError("its checksum does not fit")
    needed = _ALWAYS if "metrics" in result else _ALWAYS | _OF_A_FIT
    if not needed <= result.keys():
        raise ValueError(f"it has no {min(needed - result.keys())}")
    return result


def _seal(result: Mapping[str, Any], job_id: str) -> str:
    """Return the SHA-256 of a result and its job; one in the folder of another job is damage too."""
    sealed = canonical_json({"job": job_id, "result": dict(result)})
    return hashlib.sha256(sealed.encode("ascii")).hexdigest()
