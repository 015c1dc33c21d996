"""How a run looks on standard error: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from pdebench_fm._util.logs import is_debug
from pdebench_fm._util.text import duration, printable
from pdebench_fm.interfaces import Progress as FitProgress
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.job import Job, Trial
from pdebench_fm.plan.plan import Plan
from pdebench_fm.run.worker import Outcome

_PLAIN_INTERVAL = 10.0


class RunProgress:
    """Shows jobs as they run; time left is estimated from the training examples seen so far.

    Args:
        plan: what will run.
        todo: ids of the jobs that are not done yet.
        title: stands before the name of every job, where several models are run.
    """

    def __init__(self, plan: Plan, todo: set[str], title: str = "") -> None:
        self._title = title
        self._store = plan.store
        self._console = Console(file=sys.stderr)
        self._work = {
            job.id: job.passes if isinstance(job, Trial) else 0 for job in plan.jobs.values() if job.id in todo
        }
        self._count = len(todo)
        self._number = 0
        self._started = time.monotonic()
        self._spoke = 0.0
        # Not the console's own opinion: FORCE_COLOR makes it take a log file for a terminal.
        self._live = sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._bars = Progress(
            TextColumn("{task.description}", style="progress.description", markup=False),  # nor :emoji:
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._all: TaskID | None = None
        self._fits: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._earlier: dict[str, float] = {}  # shares that an earlier run had done

    def __enter__(self) -> Self:
        if self._live and self._count:
            self._bars.start()
            self._all = self._bars.add_task("jobs", total=self._count, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._all is not None:
            self._bars.stop()

    def progressed(self, job: Job, progress: FitProgress) -> None:
        """Move the fit's bar, or now and then print a line."""
        if job.id not in self._work or not isinstance(job, Trial):
            return
        if self._live and job.id not in self._fits:
            self._fits[job.id] = self._bars.add_task(printable(self._title + job.label), total=None, note="")
        if progress.total == 0:  # it has only begun
            return
        best = "" if progress.best is None else f"best loss {progress.best:.3g}, "
        self._earlier.setdefault(job.id, (progress.done - 1) / max(progress.total, 1))
        self._shares[job.id] = progress.done / max(progress.total, 1)
        left = f"{self._left()} left"
        note = f"{best}{left}"
        if self._all is not None:
            self._bars.update(self._all, note=left)
        if job.id in self._fits:
            self._bars.update(self._fits[job.id], completed=progress.done, total=progress.total, note=note)
        elif not self._live and time.monotonic() - self._spoke > _PLAIN_INTERVAL:
            self._spoke = time.monotonic()
            self._say(
                f"{self._where()} {self._title}{job.label}: {progress.unit} {progress.done} of {progress.total}, {note}"
            )

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Say how the job ended."""
        if job.id not in self._work:
            return
        self._number += 1
        self._shares[job.id] = 1.0
        if job.id in self._fits:
            self._bars.remove_task(self._fits.pop(job.id))
        text = f"{self._where()} {self._title}{job.label}: {_ending(outcome)}"
        log = self._store.folder(job.id) / "failure.log"
        if outcome.status == "failed" and log.exists():
            text += f" (see {log})"
            if is_debug():
                self._console.print(Text(log.read_text(encoding="utf-8")), soft_wrap=True)
        if self._all is not None:
            self._bars.update(self._all, advance=1, note=f"{self._left()} left")
        self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(Text(printable(text, 1000)), highlight=False, soft_wrap=True)

    def _where(self) -> str:
        return f"[{self._number}/{self._count}]"

    def _left(self) -> str:
        """Time left, from the share of the training examples that has been seen."""
        done = sum(share * self._work.get(job, 0) for job, share in self._shares.items())
        now = done - sum(share * self._work.get(job, 0) for job, share in self._earlier.items())
        if now <= 0:
            return "?"
        elapsed = time.monotonic() - self._started
        return duration(elapsed * (sum(self._work.values()) - done) / now)


def _ending(outcome: Outcome) -> str:
    if outcome.status != "ok":
        return f"{outcome.status}: {outcome.reason}"
    if outcome.reused:
        return "done meanwhile by another run"
    result = outcome.result
    if "metrics" in result:
        return f"scored, {SCORE} {result['metrics'][SCORE]:.3g}"
    return f"validation {result['validation']:.3g} in {duration(result['train_seconds'])}"
