"""Where jobs run: in this process, one per device, or on a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

JobT = TypeVar("JobT")
OutcomeT = TypeVar("OutcomeT")


class Executor(ABC, Generic[JobT, OutcomeT]):
    """Runs jobs and hands back each outcome as it comes."""

    @abstractmethod
    def run(self, jobs: Sequence[JobT], perform: Callable[[JobT], OutcomeT]) -> Iterator[tuple[JobT, OutcomeT]]:
        """Perform every job and yield (job, outcome) as they finish.

        ``jobs`` are ordered so that a job comes after those it depends on, and an executor must not start a job before
        them. ``perform`` reports failures in its outcome; what it raises (Ctrl-C above all) stops the run.
        """
