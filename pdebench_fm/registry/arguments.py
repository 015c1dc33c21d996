"""Checks the arguments of a plugin's factory against its signature, and calls it.

Complete arguments, defaults included, are part of a job's identity. So a named size and its family with the same
``--set`` are one model, and ``[1, 5]`` and ``[1.0, 5.0]`` are one range. Identities hold arguments as JSON; factories
are called with the types of their annotations, e.g. a tuple for a list.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from pdebench_fm._util.plain import in_words
from pdebench_fm._util.text import named, printable, show
from pdebench_fm.errors import PluginError, SettingError, suggestion

Made = TypeVar("Made")


class Written(str):
    """A value as a user wrote it: what it says as JSON if the parameter takes that, or else the text itself."""

    def read(self) -> Any:
        """Return what it says as JSON; the text if it is none."""
        try:
            return json.loads(self)
        except (ValueError, RecursionError):  # RecursionError: brackets without end
            return str(self)


def bind(
    factory: Callable[..., Any], given: Mapping[str, Any], reserved: Collection[str] = (), *, complete: bool = True
) -> dict[str, Any]:
    """Return the complete keyword arguments of ``factory`` as plain data (JSON), in the order of its signature.

    Args:
        reserved: parameters that the caller fills in; they can be neither given nor returned.
        complete: whether a value that is missing is an error; it is left out otherwise.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in reserved and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for name in given:
        if name not in parameters:
            raise SettingError(printable(str(name)), f"unknown setting{suggestion(str(name), parameters)}")
    bound: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given:
            value = given[name]
        elif parameter.default is not parameter.empty:
            value = parameter.default
        elif complete:
            raise SettingError(name, "is required")
        else:
            continue
        adapter = _adapter(factory, parameter)
        typed = _taken(adapter, name, value) if isinstance(value, Written) else _validated(adapter, name, value)
        if _holds_a_set(typed):
            raise PluginError(
                f"{qualified_name(factory)}: parameter {name!r}: a set has no fixed order, use a list or a tuple"
            )
        bound[name] = adapter.dump_python(typed, mode="json")
    return bound


def call(factory: Callable[..., Made], bound: Mapping[str, Any], /, **reserved: Any) -> Made:
    """Call ``factory`` with what `bind` returned, converted to the annotated types."""
    parameters = inspect.signature(factory).parameters
    typed = {name: _validated(_adapter(factory, parameters[name]), name, value) for name, value in bound.items()}
    return factory(**typed, **reserved)


def parameters_of(factory: Callable[..., Any]) -> set[str]:
    """Return the names of a factory's parameters."""
    return set(inspect.signature(factory).parameters)


def qualified_name(factory: Callable[..., Any]) -> str:
    """Return ``module:name`` of a factory, or the repr of one without a name, such as a `functools.partial`."""
    return f"{factory.__module__}:{factory.__qualname__}" if hasattr(factory, "__qualname__") else repr(factory)


def plain(factory: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert arguments from their annotated types back to plain data: the inverse of `call`."""
    parameters = inspect.signature(factory).parameters
    return {name: _adapter(factory, parameters[name]).dump_python(value, mode="json") for name, value in values.items()}


def _adapter(factory: Callable[..., Any], parameter: inspect.Parameter) -> TypeAdapter[Any]:
    """Return the pydantic adapter of a parameter's annotated type.

    Only this annotation is evaluated: those of reserved parameters may be unusable here.
    """
    if parameter.annotation is parameter.empty:
        return TypeAdapter(Any)
    function: Any = factory
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function.__init__ if inspect.isclass(function) else function)
    alone = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return TypeAdapter(get_type_hints(alone, globalns=getattr(function, "__globals__", {}))[parameter.name])
    except Exception as error:  # NameError, PydanticUserError, or whatever the expression raises
        shown = parameter.annotation if isinstance(parameter.annotation, str) else repr(parameter.annotation)
        where = f"{qualified_name(factory)}: parameter {parameter.name!r}: annotation {shown!r}"
        reason = "" if isinstance(error, PydanticUserError) else f": {named(error)}"
        raise PluginError(
            f"{where} must be a type of plain data, imported outside 'if TYPE_CHECKING'{reason}"
        ) from error


def _taken(adapter: TypeAdapter[Any], name: str, value: Written) -> Any:
    """Check what a user wrote; ``12345`` is a text where the parameter is one."""
    try:
        return _validated(adapter, name, value.read())
    except SettingError:
        if adapter.core_schema["type"] != "any":  # that takes every text, NaN as well
            with suppress(SettingError):
                return _validated(adapter, name, str(value))
        raise


def _holds_a_set(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_a_set, (*value.keys(), *value.values())))
    if isinstance(value, list | tuple):
        return any(map(_holds_a_set, value))
    return isinstance(value, set | frozenset)


def _validated(adapter: TypeAdapter[Any], name: str, value: Any) -> Any:
    """Check a value against the annotated type, as strictly as JSON: an int may be a float, a text or bool may not."""
    try:
        text = json.dumps(value, allow_nan=False)
    except TypeError:
        raise SettingError(name, f"must be plain data, got {show(value)}") from None
    except ValueError:
        raise SettingError(name, f"must be finite, got {show(value)}") from None
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" for part in first["loc"])
        raise SettingError(name + where, in_words(first)) from None
