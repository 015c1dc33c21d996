"""What every worker process needs, loaded: imported by the process that workers on a CPU are copies of.

See `pdebench_fm.run.executors.begin_loading`. Nothing is computed here and no thread is started: a copy would lack it.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

from pdebench_fm.run.executors import LOADED_FOR

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_ours = os.environ.pop(LOADED_FOR, None)
if _ours is not None:  # a run that is broken off leaves nothing behind, not even for the seconds that this takes
    _prctl = ctypes.CDLL(None).prctl
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if _ours != str(os.getppid()):
        os._exit(1)

ready = False
"""Whether all is loaded, by one thread: what a copy then has."""

with suppress(Exception):  # whatever cannot be loaded fails again in a fresh interpreter, and is reported there
    ready = len(os.listdir("/proc/self/task")) == 1

if _ours is not None:
    _prctl(_PR_SET_PDEATHSIG, 0)  # from here on the fork server sees for itself that nobody needs it
