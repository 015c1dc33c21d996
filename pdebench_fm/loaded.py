"""What every worker process needs, loaded: imported by the process that workers on a CPU are copies of.

See `pdebench_fm.execution.begin_loading`. Nothing is computed here and no thread is started: a copy would lack it.
"""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

# A run that is broken off leaves nothing behind, not even for the seconds that the imports take.
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

with suppress(Exception):  # whatever cannot be loaded fails again where it is needed, and is reported there
    import torch

    import pdebench_fm.work  # noqa: F401

    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimiser imports hundreds of modules more
