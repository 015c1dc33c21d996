"""Keeping freed memory in the process.

A training step allocates and frees the same blocks thousands of times. glibc hands large ones back to the kernel each
time and faults every page in again: a third of the step of a small network, three quarters where planes are larger than
32 MB, above which no threshold keeps a block. See docs/performance.md.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed; return whether it could be told."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 2**26))  # all on the heap, which never shrinks
    told = [mallopt(option, value) for option, value in settings]
    return all(told)
