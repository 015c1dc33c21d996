"""Keeping freed memory in the process.

A training step allocates and frees the same few dozen megabytes thousands of times. glibc hands such blocks back to the
kernel each time and faults every page in again: on small networks a third of the step. See docs/performance.md.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # <malloc.h>


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; return whether it could be told."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**26))
    told = [mallopt(option, value) for option, value in settings]
    return all(told)
