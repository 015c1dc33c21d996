"""Calls into plugins: whatever they raise becomes a `PluginError` that names the plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pdebench_fm._util.text import named, show
from pdebench_fm.errors import PLUGIN_ERRORS, PdefmError, PluginError

_P = ParamSpec("_P")
_T = TypeVar("_T")


def call_plugin(who: str, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a plugin's function.

    Args:
        who: starts the message, e.g. ``model 'unet': supports``.
        function: the plugin's code. Errors of ours pass through it unchanged.

    Raises:
        PluginError: it raised something else, which is kept as ``__cause__``.
    """
    try:
        return function(*args, **kwargs)
    except PdefmError:
        raise
    except PLUGIN_ERRORS as error:
        raise PluginError(f"{who}: {named(error)}") from error


def refusal_reason(who: str, function: Callable[[], object]) -> str | None:
    """Call a plugin's function that returns None or the reason for a refusal.

    Raises:
        PluginError: it raised an error, or returned neither None nor a non-empty text.
    """
    reason = call_plugin(who, function)
    if reason is None:
        return None
    if not isinstance(reason, str) or not reason.strip():
        raise PluginError(f"{who} must return None or the reason as a text, got {show(reason)}")
    return reason
