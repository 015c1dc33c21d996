"""What surrounds the import of a plugin, and its calls: its output goes to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


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
