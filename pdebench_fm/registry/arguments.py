"""Arguments of somebody else's factory, bound and checked against its signature before it is called.

The complete arguments, defaults included, become part of a job's identity, so a named size and its family with the
same ``--set`` are one model, and ``[1, 5]`` and ``[1.0, 5.0]`` one range. The identity holds them as JSON; the factory
is called with what its annotations promise, a tuple where JSON has a list.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from pdebench_fm._util.text import EXPECTED, printable, show
from pdebench_fm.errors import PluginError, SettingError, suggestion

Made = TypeVar("Made")


def bind(factory: Callable[..., Any], given: Mapping[str, Any], reserved: Collection[str] = ()) -> dict[str, Any]:
    """Return the complete keyword arguments of ``factory`` as plain data (JSON), in the order of its signature.

    Args:
        factory: a class or function with annotated keyword parameters.
        given: values by name, e.g. from a suite or ``--set``.
        reserved: parameters that the caller fills in itself; they can be neither given nor returned.

    Raises:
        SettingError: an unknown name (the nearest valid one is named), a missing or ill-typed value.
        PluginError: the annotation of a parameter cannot be used, or makes a set of what is given.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in reserved and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for name in given:
        if name not in parameters:
            raise SettingError(printable(name), f"unknown setting{suggestion(name, parameters)}")
    bound: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if name in given:
            value = given[name]
        elif parameter.default is not parameter.empty:
            value = parameter.default
        else:
            raise SettingError(name, "is required")
        adapter = _adapter(factory, parameter)
        typed = _validated(adapter, name, value)
        if _holds_a_set(typed):
            raise PluginError(
                f"{qualified_name(factory)}: parameter {name!r}: a set has another order in every process, and an "
                "identity needs one: use a list or a tuple"
            )
        bound[name] = adapter.dump_python(typed, mode="json")
    return bound


def call(factory: Callable[..., Made], bound: Mapping[str, Any], /, **reserved: Any) -> Made:
    """Call ``factory`` with what `bind` returned, each value in the Python type that its annotation names.

    Args:
        factory: as for `bind`.
        bound: arguments as plain data.
        reserved: arguments that `bind` left to the caller, passed as they are.
    """
    parameters = inspect.signature(factory).parameters
    typed = {name: _validated(_adapter(factory, parameters[name]), name, value) for name, value in bound.items()}
    return factory(**typed, **reserved)


def parameters_of(factory: Callable[..., Any]) -> set[str]:
    """Return the names of a factory's parameters."""
    return set(inspect.signature(factory).parameters)


def qualified_name(factory: Callable[..., Any]) -> str:
    """Return ``module:name`` of a factory; of a `functools.partial`, which has no name, what it holds."""
    return f"{factory.__module__}:{factory.__qualname__}" if hasattr(factory, "__qualname__") else repr(factory)


def plain(factory: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments in the Python types of their annotations as plain data: what `call` was given."""
    parameters = inspect.signature(factory).parameters
    return {name: _adapter(factory, parameters[name]).dump_python(value, mode="json") for name, value in values.items()}


def _adapter(factory: Callable[..., Any], parameter: inspect.Parameter) -> TypeAdapter[Any]:
    """What reads and writes values of a parameter's annotated type.

    Each annotation is evaluated alone: what those of reserved parameters and of the result need is nobody's concern.

    Raises:
        PluginError: it cannot be evaluated, or is no type that plain data can hold.
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
    except NameError as error:
        what = f"{error.name!r} is not known when the program runs: import it outside 'if TYPE_CHECKING'"
    except PydanticUserError:
        what = "no such value can be written in a suite: use numbers, text, truth values, and lists or mappings of them"
    except Exception as error:  # an annotation is somebody else's expression
        what = " ".join(f"it cannot be evaluated, {type(error).__name__}: {error}".split())
    shown = parameter.annotation if isinstance(parameter.annotation, str) else repr(parameter.annotation)
    raise PluginError(f"{qualified_name(factory)}: parameter {parameter.name!r}: annotation {shown!r}: {what}")


def _holds_a_set(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_a_set, (*value.keys(), *value.values())))
    if isinstance(value, list | tuple):
        return any(map(_holds_a_set, value))
    return isinstance(value, set | frozenset)


def _validated(adapter: TypeAdapter[Any], name: str, value: Any) -> Any:
    """Check against the annotated type, strictly as JSON is: a whole number may be a float, text and bools may not."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        raise SettingError(name, f"must be plain data, got {show(value)}") from None
    try:
        found = adapter.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"[{part}]" for part in first["loc"])
        expected = EXPECTED.get(first["type"]) or "must be " + first["msg"].removeprefix("Input should be ")
        raise SettingError(name + where, f"{expected}, got {show(first['input'])}") from None
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:  # no identity can be made of it
        raise SettingError(name, f"must be finite, got {show(value)}") from None
    return found
