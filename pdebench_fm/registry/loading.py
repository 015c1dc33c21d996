"""What surrounds the import of a plugin: its output goes to standard error, and it is named if it ends the process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

from pdebench_fm._util.text import printable

# The last line that arrives is printed, unless it is empty.
_WATCH = 'last=; while IFS= read -r line; do last=$line; done; [ -z "$last" ] || printf "%s\\n" "$last" >&2'


@contextmanager
def loading(what: str, owner: str) -> Iterator[None]:
    """Surround the import of a plugin's code.

    An import that calls ``os._exit`` or crashes in C ends the process without a word. So a shell waits beside it, and
    prints a line if it ends.

    Args:
        what: that is loaded, e.g. ``model 'unet' of plugin``.
        owner: the entry point and its distribution.
    """
    name = owner.partition(" (")[0]
    watch = _watch(f"pdefm: the process ended while it loaded {what} {owner}; --no-plugin {name} leaves it out")
    try:
        with to_standard_error():
            yield
    finally:
        if watch is not None:
            with suppress(OSError):  # Ctrl-C has ended it too
                watch.communicate(b"\n")


def _watch(line: str) -> subprocess.Popen[bytes] | None:
    """Start a process that prints a line if this one ends; None if there is no shell."""
    try:
        watch = subprocess.Popen(["sh", "-c", _WATCH], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    except OSError:
        return None
    assert watch.stdin is not None
    with suppress(OSError):
        watch.stdin.write(f"{printable(line, 1000)}\n".encode(errors="replace"))
        watch.stdin.flush()
    return watch


@contextmanager
def to_standard_error() -> Iterator[None]:
    """Send what is printed to standard error, by Python, by C or by another process."""
    if sys.stdout is not None:
        sys.stdout.flush()
    with redirect_stdout(sys.stderr):
        try:
            before = os.dup(1)
        except OSError:  # closed
            yield
            return
        try:
            os.dup2(2, 1)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, 1)
            os.close(before)
