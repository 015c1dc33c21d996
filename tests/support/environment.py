"""What a worker sees of its environment; imports nothing heavy, as a worker must import it."""

from __future__ import annotations

import os
import time


def environment_after(seconds: float, *names: str) -> tuple[str | None, ...]:
    """Wait, and return the values of environment variables."""
    time.sleep(seconds)
    return tuple(os.environ.get(name) for name in names)
