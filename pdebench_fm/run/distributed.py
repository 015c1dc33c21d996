"""Several processes that fit every trial together, started by torchrun.

Every rank walks the same plan in the same order. Rank 0 decides what is left to do, evaluates and writes. Gradients
travel by gloo between CPUs and by NCCL between GPUs.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn, TypeVar

from pdebench_fm.errors import UsageError

_PATIENCE = timedelta(days=30)  # ranks may wait that long for another run on the same folder
_T = TypeVar("_T")


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Args:
        rank: this process; 0 writes.
        size: how many there are.
        local_rank: this process among those on its machine; it says which GPU it uses.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process decides, evaluates and writes."""
        return self.rank == 0

    def from_main(self, value: _T) -> _T:
        """Return rank 0's value in every process; waits until all have asked."""
        if self.size == 1:
            return value
        from torch import distributed

        shared = [value]
        distributed.broadcast_object_list(shared, src=0)
        return shared[0]


def is_main_process() -> bool:
    """Whether this process prints results: rank 0, or a process that torchrun did not start."""
    return os.environ.get("RANK", "0") == "0" or not started_by_torchrun()


def started_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def join_world(device: str) -> World:
    """Join the processes that torchrun started with this one; a world of one if there are none."""
    if not started_by_torchrun():
        return World()
    import torch
    from torch import distributed

    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if not distributed.is_initialized():  # once a process: the models of a family share it
        on_gpu = device.startswith("cuda")
        distributed.init_process_group(
            # Python objects travel between CPUs, gradients from where the network is.
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            timeout=_PATIENCE,
            device_id=torch.device(device_of_rank(device, local)) if on_gpu else None,
        )
        atexit.register(distributed.destroy_process_group)
    return World(rank, size, local)


def leave(status: int) -> NoReturn:
    """End this process; one of several is ended without tearing its interpreter down.

    Threads of gloo may outlive `destroy_process_group` and then abort the process, and torchrun would stop the others
    (pytorch/pytorch#190489, #179291).
    """
    if not started_by_torchrun():
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader has gone
            stream.flush()
    os._exit(status)


def device_of_rank(device: str, local_rank: int) -> str:
    """Return the device of one process: GPUs are dealt out in order."""
    if not device.startswith("cuda"):
        return device
    import torch

    if ":" in device:
        raise UsageError(f"several processes need a GPU each: give --device cuda, not {device}")
    if local_rank >= torch.cuda.device_count():
        raise UsageError(f"process {local_rank} has no GPU: this machine has {torch.cuda.device_count()}")
    return f"cuda:{local_rank}"
