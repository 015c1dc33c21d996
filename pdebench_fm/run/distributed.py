"""Several processes that fit every trial of a run together: each computes a part of every batch.

One process leads: it runs the plan, evaluates, and writes. The others follow: they hear which trial comes next and take
part in its fit. Leader and followers are started by ``pdefm run --nproc N`` on one machine, or by torchrun on one or
several; gradients travel by gloo between CPUs and by NCCL between GPUs.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm._util.text import one_line
from pdebench_fm.errors import PdefmError, RunError, UsageError
from pdebench_fm.run.executors import end_with_parent, interrupts_held_back, thread_variables

_PATIENCE = timedelta(days=30)  # a leader may wait that long for another run on the same folder
_POLL = 0.05
_PARTING = 5.0
"""Seconds that followers are given to end when all is done. With torch 2.4 one may wait for ever as it leaves."""


@dataclass(frozen=True)
class Group:
    """The processes of a run, joined by torch's default process group.

    Args:
        rank: this process; 0 leads.
        count: how many there are.
        local_rank: this process among those on its machine; says which GPU it uses.
    """

    rank: int
    count: int
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process runs the plan and writes."""
        return self.rank == 0

    def announce(self, job_id: str | None) -> None:
        """Tell the followers which trial comes next, or with None that no more will come. For the leader."""
        from torch import distributed

        distributed.broadcast_object_list([job_id], src=0)

    def dismiss(self) -> None:
        """Tell the followers that no more trials will come. For the leader.

        Raises:
            RunError: one of them is gone.
        """
        try:
            self.announce(None)
        except RuntimeError as error:
            raise RunError(f"a process of the group is gone: {one_line(error)}") from error

    def hear(self) -> str | None:
        """Wait for the leader's next announcement. For followers."""
        from torch import distributed

        said: list[str | None] = [None]
        distributed.broadcast_object_list(said, src=0)
        return said[0]


Follow = Callable[[Group, str], None]
"""(group, device) → takes part in every trial announced, until there are no more."""


@contextmanager
def gathered(count: int, device: str, threads: int, follow: Follow) -> Iterator[Group]:
    """Start ``count`` − 1 followers on this machine and lead them.

    Args:
        count: number of processes, at least 2.
        device: ``cpu``, or ``cuda``: then rank r uses device r.
        threads: threads of each process.
        follow: what a follower does; it is pickled.

    Raises:
        RunError: a follower ended before the group was complete.
    """
    import torch
    from torch import distributed

    store = distributed.TCPStore("127.0.0.1", 0, count, True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = multiprocessing.get_context("spawn")
    followers = []
    before = torch.get_num_threads()
    try:
        for rank in range(1, count):
            process = context.Process(
                target=_follower, args=(follow, store.port, rank, count, device, threads), daemon=True
            )
            with interrupts_held_back(), thread_variables(threads):
                process.start()
            followers.append(process)
        keep_freed_memory()
        torch.set_num_threads(threads)
        while not store.check([f"ready {rank}" for rank in range(1, count)]):
            for process in followers:
                if process.exitcode is not None:
                    raise RunError(f"a process of the group ended with exit code {process.exitcode}")
            time.sleep(_POLL)
        distributed.init_process_group(
            _backend(device), store=store, rank=0, world_size=count, timeout=_PATIENCE, device_id=_bound(device, 0)
        )
        group = Group(0, count)
        yield group
        group.dismiss()
        if device.startswith("cuda"):
            distributed.destroy_process_group()  # before it waits for them: NCCL is left by all together
        deadline = time.monotonic() + _PARTING
        for process in followers:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in followers:
            process.kill()
            process.join()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        torch.set_num_threads(before)


@contextmanager
def launched(device: str) -> Iterator[Group]:
    """Join the group that torchrun started this process for; see `launched_by_torchrun`."""
    from torch import distributed

    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not distributed.is_initialized():  # once a process: the models of a family use it one after the other
        keep_freed_memory()
        distributed.init_process_group(_backend(device), timeout=_PATIENCE, device_id=_bound(device, local))
        atexit.register(distributed.destroy_process_group)
    group = Group(rank, count, local)
    yield group
    if group.leads:
        group.dismiss()


def launched_by_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def speaks() -> bool:
    """Whether this process may print results: of those that torchrun started, the first alone."""
    return not launched_by_torchrun() or os.environ["RANK"] == "0"


def device_of(device: str, local_rank: int) -> str:
    """Return the device of one process: GPUs are dealt out in order.

    Raises:
        UsageError: one GPU was named for several processes, or there are too few.
    """
    if not device.startswith("cuda"):
        return device
    import torch

    if ":" in device:
        raise UsageError(f"several processes need a GPU each: give --device cuda, not {device}")
    if local_rank >= torch.cuda.device_count():
        raise UsageError(f"process {local_rank} has no GPU: this machine has {torch.cuda.device_count()}")
    return f"cuda:{local_rank}"


def _follower(follow: Follow, port: int, rank: int, count: int, device: str, threads: int) -> None:
    """The life of a follower."""
    end_with_parent()
    keep_freed_memory()
    import torch
    from torch import distributed

    torch.set_num_threads(threads)
    store = distributed.TCPStore("127.0.0.1", port, count, False)  # type: ignore[attr-defined]
    store.set(f"ready {rank}", "yes")
    distributed.init_process_group(
        _backend(device), store=store, rank=rank, world_size=count, timeout=_PATIENCE, device_id=_bound(device, rank)
    )
    try:
        follow(Group(rank, count, rank), device_of(device, rank))
    except PdefmError as error:
        sys.exit(f"pdefm: {error}")  # a line on standard error; the leader ends the run
    distributed.destroy_process_group()


def _backend(device: str) -> str:
    # Announcements are tensors on the CPU, gradients are where the network is.
    return "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"


def _bound(device: str, local_rank: int):  # type: ignore[no-untyped-def]
    import torch

    return torch.device(device_of(device, local_rank)) if device.startswith("cuda") else None
