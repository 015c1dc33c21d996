"""Asking somebody else's code: whatever it raises or answers ends in one line that names who was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pdebench_fm._util.text import reason_of, show
from pdebench_fm.errors import FOREIGN, PdefmError, PluginError

_T = TypeVar("_T")


def asked(who: str, ask: Callable[[], _T], through: tuple[type[PdefmError], ...] = ()) -> _T:
    """Return what ``ask`` answers.

    Args:
        who: begins the line, e.g. ``model 'unet': supports``.
        ask: calls the code, and reads what is made only as it is read.
        through: errors of ours that say all there is to say.

    Raises:
        PluginError: it raises anything but ``through``.
    """
    try:
        return ask()
    except through:
        raise
    except FOREIGN as error:
        raise PluginError(f"{who}: {reason_of(error)}") from error


def reason_given(who: str, ask: Callable[[], object]) -> str | None:
    """Return the reason that ``ask`` answers, None where there is none.

    Raises:
        PluginError: it raises, or the answer is neither None nor a text that says something.
    """
    reason = asked(who, ask)
    if reason is None:
        return None
    if not isinstance(reason, str) or not reason.strip():
        raise PluginError(f"{who} must return None or the reason as a text, got {show(reason)}")
    return reason
