"""In which order jobs run: parents first, long pre-trainings before others, then as planned."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence

from pdebench_fm.plan.job import Job, Point, Trial


class Order:
    """Which jobs may run next."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._ready: list[tuple[int, int, Job]] = []
        self._pushed = itertools.count()
        self._position = {job.id: number for number, job in enumerate(sorted(jobs, key=_priority))}
        self._waits = {job.id: {parent for parent in job.parents if parent in self._position} for job in jobs}
        self._children: dict[str, list[Job]] = {}
        for job in jobs:
            for parent in self._waits[job.id]:
                self._children.setdefault(parent, []).append(job)
            if not self._waits[job.id]:
                self._push(job)

    def pop(self) -> Job | None:
        """Return the next job that may run."""
        return heapq.heappop(self._ready)[-1] if self._ready else None

    def ended(self, job: Job) -> None:
        """Let the jobs that waited for this one run, unless they wait for others."""
        self._release(job, self._children.pop(job.id, ()))

    def submitted(self, job: Job) -> None:
        """Let them run already if an executor keeps the order; points that may add trials wait for the results."""
        children = self._children.get(job.id, ())
        self._release(job, [child for child in children if not (isinstance(child, Point) and child.extend)])

    def _release(self, job: Job, children: Iterable[Job]) -> None:
        for child in children:
            waits = self._waits[child.id]
            if job.id in waits:
                waits.remove(job.id)
                if not waits:
                    self._push(child)

    def put_back(self, job: Job, until: Sequence[Job]) -> None:
        """Let a job that was popped wait for other jobs. Those that are new may run at once."""
        for other in until:
            if other.id not in self._children:  # a point on another grid may wait for the same trial
                self._position[other.id] = self._position[job.id]
                self._push(other)
            self._children.setdefault(other.id, []).append(job)
        self._waits[job.id] = {other.id for other in until}

    def _push(self, job: Job) -> None:
        heapq.heappush(self._ready, (self._position[job.id], next(self._pushed), job))


def _priority(job: Job) -> int:
    return -job.passes if isinstance(job, Trial) and job.protocol is None else 0


def wall_seconds(jobs: Sequence[Job], seconds: Mapping[str, float], workers: int) -> float:
    """Return how long jobs take on some workers, each of which does one at a time.

    Args:
        jobs: what is left; parents that are not among them are done.
        seconds: of each job, by id.
    """
    order, now, numbers = Order(jobs), 0.0, itertools.count()
    busy: list[tuple[float, int, Job]] = []
    while True:
        while len(busy) < workers and (job := order.pop()) is not None:
            heapq.heappush(busy, (now + seconds[job.id], next(numbers), job))
        if not busy:
            return now
        now, _, job = heapq.heappop(busy)
        order.ended(job)


def longest_chain(jobs: Sequence[Job], seconds: Mapping[str, float]) -> list[Job]:
    """Return the jobs that wait for each other the longest: no number of workers is done sooner.

    Args:
        jobs: as for `wall_seconds`, parents first.
    """
    ends: dict[str, float] = {}
    before: dict[str, Job | None] = {}
    known = {job.id: job for job in jobs}
    for job in jobs:
        parent = max((one for one in job.parents if one in ends), key=ends.__getitem__, default=None)
        before[job.id] = None if parent is None else known[parent]
        ends[job.id] = seconds[job.id] + (0.0 if parent is None else ends[parent])
    last = known[max(ends, key=ends.__getitem__)] if ends else None
    chain: list[Job] = []
    while last is not None:
        chain.insert(0, last)
        last = before[last.id]
    return chain
