"""Save baselines as numpy arrays, with a JSON file about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from pdebench_fm.errors import DataFileError


def write(path: Path, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``model.json`` and ``arrays.npz`` into the folder ``path``."""
    (path / "model.json").write_text(json.dumps(about, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    np.savez(path / "arrays.npz", **dict(arrays))  # type: ignore[arg-type]


class About(BaseModel):
    """What ``model.json`` holds: nothing is converted, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)


Kind = TypeVar("Kind", bound=About)


def read(path: Path, kind: type[Kind]) -> tuple[Kind, dict[str, np.ndarray]]:
    """Read back what `write` wrote.

    Raises:
        DataFileError: a file is missing or unreadable, or holds something else.
    """
    try:
        about = kind.model_validate_json((path / "model.json").read_bytes(), strict=True)
        with np.load(path / "arrays.npz", allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except Exception as error:  # a damaged zip file surfaces as many different exceptions
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataFileError(f"{path}: cannot be read as a saved baseline: {reason}") from error
    return about, arrays
