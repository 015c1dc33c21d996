"""Starts the processes that train one trial together."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def launch(processes: int, arguments: Sequence[str], nodes: int = 1, meeting: str = "127.0.0.1:0") -> int:
    """Run ``python ARGUMENTS`` in several processes under torchrun's own agent; return the exit code.

    Args:
        processes: how many to start on this machine.
        arguments: of the Python interpreter, e.g. ``["-m", "pdebench_fm.cli", "run", …]``.
        nodes: machines on which this is called.
        meeting: host and port at which their agents meet; one of the machines.
    """
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # ranks say what went wrong
    configuration = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint=meeting,
        run_id="pdefm",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        with _handlers_restored():
            elastic_launch(configuration, sys.executable)(*arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return int(failure.exitcode) if failure.exitcode > 0 else 1
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


@contextmanager
def _handlers_restored() -> Iterator[None]:
    """Put the handlers of signals back, because torchrun's agent leaves its own."""
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:  # None: not set from Python
                signal.signal(number, handler)
