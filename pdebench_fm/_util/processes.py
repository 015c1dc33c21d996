"""Whether a process that a file names still runs: its number may since have been given to another."""

from __future__ import annotations

import os
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def mark(pid: int) -> str:
    """Return what tells a process from a later one of the same number: the boot and the time it started.

    Returns an empty text if it has ended, and on systems without ``/proc``.
    """
    try:
        # The name in brackets may hold anything; the state comes after it, and the start 19 fields later.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        ended = fields[0] in "ZX"  # a zombie waits for its parent to read its exit code
        return "" if ended else f"{_BOOT.read_text().strip()} {fields[19]}"
    except (OSError, IndexError):
        return ""


def is_running(pid: int, known: str) -> bool:
    """Whether a process runs.

    Args:
        known: its `mark` when it ran; empty if that is not known.
    """
    if pid <= 0:  # these are groups of processes
        return False
    if _BOOT.exists():
        found = mark(pid)
        return found != "" and known in ("", found)
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
