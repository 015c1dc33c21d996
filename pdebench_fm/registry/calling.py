"""Calls into plugins: whatever they raise becomes a `PluginError` that names the plugin."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import ParamSpec, TypeVar

from pdebench_fm._util.text import named, reason_of, show
from pdebench_fm.errors import PLUGIN_ERRORS, PdefmError, PluginError
from pdebench_fm.hookspecs import PROJECT

_P = ParamSpec("_P")
_T = TypeVar("_T")
_NOT_PLUGINS = {"pdebench_fm", "torch", "numpy", "pluggy", "pydantic", "pydantic_core", *sys.stdlib_module_names}


def call_plugin(who: str, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a plugin's function. What it raises becomes a `PluginError` that starts with ``who``, unless it is ours."""
    try:
        return function(*args, **kwargs)
    except PdefmError:
        raise
    except PLUGIN_ERRORS as error:
        raise PluginError(f"{who}: {named(error)}") from error


def refusal_reason(who: str, function: Callable[[], object]) -> str | None:
    """Call a plugin's function that returns None or the reason for a refusal, as a text that is not empty."""
    reason = call_plugin(who, function)
    if reason is None:
        return None
    if not isinstance(reason, str) or not reason.strip():
        raise PluginError(f"{who} must return None or the reason as a text, got {show(reason)}")
    return reason


def located(error: BaseException) -> str:
    """Return an error on one line, with the file and line of the plugin that raised it.

    An error of ours is returned without: its text says what is wrong.
    """
    place = "" if isinstance(error, PdefmError) else place_of(error)
    return f"{reason_of(error)} ({place})" if place else reason_of(error)


def place_of(error: BaseException) -> str:
    """Return ``file.py:line`` of the innermost frame in a plugin's code, if possible not in a library that it calls.

    Returns an empty text if there is none.
    """
    found = [
        (frame.f_globals.get("__name__", "").partition(".")[0], Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    outside = [place for place in reversed(found) if place[0] not in _NOT_PLUGINS]
    registered = {point.module.partition(".")[0] for point in entry_points(group=PROJECT)}
    own = (place for place in outside if place[0] in registered or "site-packages" not in place[1].parts)
    _, path, line = next(own, outside[0] if outside else ("", Path(), 0))
    return f"{path.name}:{line}" if line else ""
