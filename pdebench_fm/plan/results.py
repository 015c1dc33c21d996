"""The form of ``result.json``: plain data, checked by pydantic and sealed by its SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pdebench_fm._util.identity import canonical_json
from pdebench_fm._util.text import show

_SEAL = "sha256"


class _Ended(BaseModel):
    """What every job leaves: how it ended, and with what it was done."""

    model_config = ConfigDict(strict=True)

    status: Literal["ok", "diverged"]
    reason: str
    device: str
    threads: int
    versions: dict[str, str]
    commit: str | None


class _Fitted(_Ended):
    """Of a trial, or of a point that diverged."""

    validation: float | None
    epochs: int
    steps: int
    best_epoch: int
    train_seconds: float
    data_seconds: float


class _Scored(_Ended):
    """Of a point."""

    status: Literal["ok"]
    chosen: str | None
    trials: list[str]
    metrics: dict[str, float]
    interval: dict[str, list[float]]
    coefficient_rise: float | None
    errors_sha256: str | None = None
    test_examples: int
    parameters: int
    flops: int | None = None
    peak_memory: int | None = None
    inference_seconds: float | None = None
    inference_batch: int | None = None
    inference_device: str | None = None
    notes: dict[str, str]
    scored_with: dict[str, Any]


def to_text(result: Mapping[str, Any], job_id: str) -> str:
    """Return the text of a job's ``result.json``.

    Raises:
        ValueError: it could not be read again.
    """
    plain = json.loads(canonical_json(dict(result)))
    sealed = {**_checked(plain), _SEAL: _seal(plain, job_id)}
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n"


def from_text(text: str | bytes, job_id: str, checked: bool = False) -> dict[str, Any]:
    """Return the result of a job.

    Args:
        text: of ``result.json``.
        job_id: of the job.
        checked: whether this very text was found whole before.

    Raises:
        ValueError: the text is damaged, of another job, or of another version of this package.
    """
    try:
        result = json.loads(text)
    except RecursionError:
        raise ValueError("brackets without end") from None
    if not isinstance(result, dict) or _SEAL not in result:
        raise ValueError("it has no checksum")
    if checked:
        del result[_SEAL]
        return result
    if result.pop(_SEAL) != _seal(result, job_id):
        raise ValueError("its checksum does not fit")
    return _checked(result)


def _checked(result: dict[str, Any]) -> dict[str, Any]:
    try:
        (_Scored if "metrics" in result else _Fitted).model_validate(result)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{where}: {first['msg']}, got {show(first['input'])}") from None
    return result


def _seal(result: Mapping[str, Any], job_id: str) -> str:
    """Return the SHA-256 of a result, read from JSON, and its job; one in the folder of another job is damage too."""
    sealed = canonical_json({"job": job_id, "result": dict(result)}, parsed=True)
    return hashlib.sha256(sealed.encode("ascii")).hexdigest()
