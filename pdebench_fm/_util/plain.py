"""Plain data from files, held to a pydantic model as strictly as a suite."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pdebench_fm._util.text import EXPECTED, one_line, printable, show
from pdebench_fm.errors import UsageError


class Strict(BaseModel):
    """Base of models for what is read: nothing is converted, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def first_problem(error: ValidationError, whole: str = "") -> str:
    """Return the first of pydantic's findings as ``key: what was expected``; ``whole`` is the key of the whole."""
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"])) or whole
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    return one_line(f"{key}: {message}" if key else message)


Read = TypeVar("Read", bound=Strict)


def read_plain(model: type[Read], value: Any) -> Read:
    """Return plain data as a model.

    Raises:
        UsageError: a key is missing, unknown, or holds a value of another type; names the first.

    >>> class Point(Strict):
    ...     x: int
    >>> read_plain(Point, {"x": 2})
    Point(x=2)
    """
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except TypeError as error:
        raise UsageError(f"must be plain data: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(map(str, first["loc"])))
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{where}: unknown key") from None
        expected = EXPECTED.get(first["type"]) or "must be " + first["msg"].removeprefix("Input should be ")
        got = "" if first["type"] == "missing" else f", got {show(first['input'])}"
        raise UsageError(f"{where}: {expected}{got}".removeprefix(": ")) from None
