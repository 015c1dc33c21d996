"""What Ctrl-C and SIGTERM say, and what they do while nothing has been begun."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
TERMINATED = 143

_ENDS: Mapping[int, tuple[str, int]] = {
    signal.SIGINT: ("interrupted", INTERRUPTED),
    signal.SIGTERM: ("terminated", TERMINATED),
}


@contextmanager
def ended_at_once(own_process: bool) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM end this process there and then, with their line and exit code.

    For imports and plans, which leave nothing half done. What a handler raises in the middle of an import may not
    arrive: Python drops it where a callback runs, a library where it tries what it can import, and either may leave a
    traceback. A signal that is ignored, as SIGINT is in the background of a shell, stays so.

    Args:
        own_process: whether this process was started for the command; in anybody else's nothing happens.
    """
    replaced = [number for number in _ENDS if own_process and callable(signal.getsignal(number))]
    before = {number: signal.signal(number, _end) for number in replaced}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    text, code = _ENDS[number]
    try:
        os.write(2, f"pdefm: {text}\n".encode())  # no buffer, which the signal may have found half written
    finally:  # the reader may have gone before
        os._exit(code)
