"""A request that the fit of this process writes its state soon. Signal handlers make it before torch is imported."""

from __future__ import annotations

_asked = _written = 0  # numbers, since no lock may be taken in a signal handler


def save_soon() -> None:
    """Let the fit of this process write its state before its next step, e.g. because the process will be killed."""
    global _asked
    _asked += 1


def asked() -> int:
    """Return how often a state was asked for."""
    return _asked


def written(request: int) -> None:
    """Note that a state was written that answers the requests up to this one."""
    global _written
    _written = request


def is_wanted() -> bool:
    """Whether a state was asked for and is not written yet."""
    return _written < _asked


def is_saved() -> bool:
    """Whether a fit has written its state since `save_soon` was called."""
    return _written == _asked > 0
