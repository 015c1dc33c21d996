"""What an executor of a cluster offers beyond `concurrent.futures.Executor`.

Every `concurrent.futures.Executor` carries out a run. One that submits to a cluster should also be a `Schedules`, so
that jobs wait in its queue for those they need. Its entry should name a ``queue``, so that ``pdefm status`` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pdebench_fm._util.environment import environment_of_workers as environment_of_workers
from pdebench_fm._util.saving import is_saved as is_saved
from pdebench_fm._util.saving import save_soon as save_soon


@dataclass(frozen=True)
class Task:
    """A call that may have to wait for others.

    Args:
        key: tells it from others; the same in every run. For a job of a run it is the job's id.
        call: takes no arguments, can be pickled.
        after: keys of the tasks it waits for.
        cost: how long it takes, in any unit.
    """

    key: str
    call: Callable[[], Any]
    after: Sequence[str] = ()
    cost: float = 1.0


@runtime_checkable
class Schedules(Protocol):
    """An executor that takes a whole plan at once, and goes on with it if this process ends."""

    def schedule(self, tasks: Sequence[Task]) -> list[Future[Any]]:
        """Submit tasks, each after those it waits for; a task that still waits or runs is not submitted again."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As every executor; without ``wait`` and ``cancel_futures``, tasks go on."""


@dataclass(frozen=True)
class QueuedJob:
    """Where a job was submitted, for ``pdefm status``.

    Args:
        task: the cluster's id of what does it.
        state: what the cluster says of that, e.g. ``PENDING (Dependency)``; empty if it neither waits nor runs.
        log: the file that takes what it prints.
    """

    task: str
    state: str = ""
    log: Path | None = None


Queue = Callable[[Path], Mapping[str, QueuedJob]]
"""Returns the jobs that were submitted from a folder of results, by id. It should answer in half a second, and gets the
same folder as the executor's ``output``."""
