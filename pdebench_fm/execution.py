"""The executor that runs jobs one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pdebench_fm.interfaces.executor import Executor, JobT, OutcomeT


class InProcessExecutor(Executor[JobT, OutcomeT]):
    """Jobs in order, here; tracebacks and debuggers work as in any program."""

    def run(self, jobs: Sequence[JobT], perform: Callable[[JobT], OutcomeT]) -> Iterator[tuple[JobT, OutcomeT]]:
        """Perform each job in turn."""
        for job in jobs:
            yield job, perform(job)
