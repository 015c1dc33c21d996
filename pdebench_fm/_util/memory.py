"""Memory that a process keeps: freed blocks, and sets of examples that are read again and again.

A training step allocates and frees the same blocks thousands of times. By default glibc returns large blocks to the
kernel, and every page is faulted in again: up to three quarters of a step. See docs/performance.md.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_GPU_SHARE = 16
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # <malloc.h>


def keep_freed_memory() -> bool:
    """Make glibc's allocator keep freed blocks; returns whether that worked."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 2**26))  # all on the heap, which never shrinks
    told = [mallopt(option, value) for option, value in settings]
    return all(told)


def room_for_a_set(device: torch.device, on_cpu: int) -> int:
    """Return how many bytes a set kept on a device may take: ``on_cpu``, or a sixteenth of a GPU's memory if more.

    A GPU of 80 GB then holds the paper's 32,768 examples at 128², 4.3 GB.
    """
    if device.type != "cuda":
        return on_cpu
    import torch

    return max(on_cpu, torch.cuda.get_device_properties(device).total_memory // _GPU_SHARE)
