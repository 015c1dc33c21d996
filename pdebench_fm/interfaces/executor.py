"""Where jobs run: in this process, in several, or on a cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from pdebench_fm.interfaces.operator_model import Progress


class Ordered(Protocol):
    """What an executor knows of a job: its id, and the ids of the jobs it waits for."""

    @property
    def id(self) -> str:
        """The job's id."""

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of the jobs it needs; those not among the jobs of a run are done."""


JobT = TypeVar("JobT", bound=Ordered)
OutcomeT = TypeVar("OutcomeT")

Report = Callable[[Progress | None], None]
"""Called by a job: with None when it begins, then with its progress."""


class Executor(ABC, Generic[JobT, OutcomeT]):
    """Runs jobs and hands back each outcome as it comes."""

    @abstractmethod
    def run(
        self,
        jobs: Sequence[JobT],
        perform: Callable[[JobT, Report], OutcomeT],
        hear: Callable[[JobT, Progress | None], None],
    ) -> Iterator[tuple[JobT, OutcomeT]]:
        """Perform every job and yield (job, outcome) as they finish.

        Args:
            jobs: ordered so that a job comes after its parents; none may start before its parents have finished.
            perform: does one job. It can be pickled. Failures are part of its outcome; what it raises (Ctrl-C above
                all) stops the run.
            hear: called in this process with what jobs report.
        """
