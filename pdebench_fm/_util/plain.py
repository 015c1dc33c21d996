"""Plain data from files, held to a pydantic model, and what pydantic finds wrong in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pdebench_fm._util.text import one_line, printable, show
from pdebench_fm.errors import UsageError, suggestion

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
_RELATIONS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


class Strict(BaseModel):
    """Base of models for what is read: nothing is converted, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Line(Strict):
    """Base of models that are kept as lines of JSON."""

    def line(self) -> str:
        """Return it as one line of JSON, without the line ending."""
        # What was read is written as it was, without the keys that came later.
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_unset=True), allow_nan=False)


def in_words(found: ErrorDetails, keys: Iterable[str] | None = None) -> str:
    """Return one of pydantic's findings as ``must be …, got …``.

    Args:
        keys: those that there are, to name the nearest one.
    """
    kind, limits = found["type"], found.get("ctx", {})
    for limit, relation in _RELATIONS.items():
        if limit in limits:
            short = f"{limits[limit]:g}"
            exact = short if float(short) == limits[limit] else str(limits[limit])
            return f"must be {relation} {exact}, got {show(found['input'])}"
    match kind:
        case "extra_forbidden":
            return "unknown key" + ("" if keys is None else suggestion(str(found["loc"][-1]), keys))
        case "missing":
            return "is required"
        case "value_error":
            return one_line(limits["error"])
        case "literal_error" if "'" in limits["expected"]:
            valid = re.findall(r"'([^']*)'", limits["expected"])
            return f"unknown value {show(found['input'])}{suggestion(str(found['input']), valid)}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "string_too_long":
            return f"must be at most {limits['max_length']} characters"
    expected = _EXPECTED.get(kind) or one_line(found["msg"]).replace("Input should", "must", 1)
    return f"{expected}, got {show(found['input'])}"


def first_problem(error: ValidationError, whole: str = "", keys: Iterable[str] | None = None) -> str:
    """Return the first of pydantic's findings as ``key: what was expected``.

    Args:
        whole: the key of the whole.
        keys: those that there are, to name the nearest one.
    """
    first = error.errors(include_url=False)[0]
    where = printable(".".join(map(str, first["loc"]))) or whole
    return f"{where}: {in_words(first, keys)}" if where else in_words(first, keys)


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
        raise UsageError(first_problem(error)) from None
