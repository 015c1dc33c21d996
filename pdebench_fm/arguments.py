"""Arguments of somebody else's factory, bound and checked against its signature before it is called.

The complete arguments, defaults included, become part of a job's identity, so a named size and its family with the
same ``--set`` are one model, and ``[1, 5]`` and ``[1.0, 5.0]`` one range.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pdebench_fm.errors import SettingError, suggestion
from pdebench_fm.messages import EXPECTED, printable, show


def bind(factory: Callable[..., Any], given: Mapping[str, Any], reserved: Collection[str] = ()) -> dict[str, Any]:
    """Return the complete keyword arguments of ``factory`` as plain data (JSON), in the order of its signature.

    Args:
        factory: a class or function with annotated keyword parameters.
        given: values by name, e.g. from a suite or ``--set``.
        reserved: parameters that the caller fills in itself; they can be neither given nor returned.

    Raises:
        SettingError: an unknown name (the nearest valid one is named), a missing or ill-typed value.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in reserved and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for name in given:
        if name not in parameters:
            raise SettingError(printable(name), f"unknown setting{suggestion(name, parameters)}")
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    bound: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given:
            value = given[name]
        elif parameter.default is not parameter.empty:
            value = parameter.default
        else:
            raise SettingError(name, "is required")
        bound[name] = _coerce(name, value, hints.get(name, Any))
    return bound


def _coerce(name: str, value: Any, annotation: Any) -> Any:
    """Check against the annotated type, strictly as JSON is: a whole number may be a float, text and bools may not."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        raise SettingError(name, f"must be plain data, got {show(value)}") from None
    try:
        return adapter.dump_python(adapter.validate_json(text, strict=True), mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" for part in first["loc"])
        expected = EXPECTED.get(first["type"]) or "must be " + first["msg"].removeprefix("Input should be ")
        raise SettingError(name + where, f"{expected}, got {show(first['input'])}") from None
