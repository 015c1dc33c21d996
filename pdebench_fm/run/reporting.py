"""How a run looks on standard error: bars with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from pdebench_fm._util.logs import is_debug
from pdebench_fm._util.text import duration, printable
from pdebench_fm.interfaces import Progress as FitProgress
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.job import Job, Point, Trial
from pdebench_fm.plan.plan import Plan
from pdebench_fm.run.runner import Reporter
from pdebench_fm.run.work import Outcome

_PLAIN_INTERVAL = 10.0


class RunProgress(Reporter):
    """Shows jobs as they run, and estimates the time left.

    Args:
        todo: ids of the jobs that are not done yet. Trials that the run adds join them.
        title: comes before the name of every job, if several models are run.
    """

    def __init__(self, plan: Plan, todo: set[str], title: str = "") -> None:
        self._title = title
        self._store = plan.store
        notebook = _in_notebook()
        self._console = Console(file=sys.stderr, force_jupyter=notebook)
        jobs = (job for job in plan.jobs.values() if job.id in todo)
        self._work = Remaining({job.id: job.passes if isinstance(job, Trial) else 0 for job in jobs})
        self._todo = set(todo)
        self._number = 0
        self._spoke = 0.0
        # Not the console's own opinion: FORCE_COLOR makes it take a log file for a terminal.
        self._live = notebook or (sys.stderr.isatty() and not self._console.is_dumb_terminal)
        self._bars = Progress(
            TextColumn("{task.description}", style="progress.description", markup=False),  # nor :emoji:
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}", style="progress.download", markup=False),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._all: TaskID | None = None
        self._fits: dict[str, TaskID] = {}
        self._failed: set[str] = set()

    def __enter__(self) -> Self:
        if self._live and self._todo:
            self._bars.start()
            total = len(self._todo)
            self._all = self._bars.add_task("jobs", total=total, count=f"0/{total}", note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._all is not None:
            self._bars.stop()

    def progressed(self, job: Job, progress: FitProgress) -> None:
        """Move the fit's bar, or now and then print a line."""
        if not isinstance(job, Trial):
            return
        self._join(job)
        if self._live and job.id not in self._fits:
            self._fits[job.id] = self._bars.add_task(printable(self._title + job.label), total=None, count="", note="")
        if progress.total == 0:  # it has only begun
            return
        self._work.reported(job.id, progress.done, progress.total)
        best = [] if progress.best is None else [f"best loss {progress.best:.3g}"]
        note = ", ".join([*best, *self._left()])
        if self._all is not None:
            self._bars.update(self._all, note="".join(self._left()))
        if job.id in self._fits:
            count = f"{progress.done}/{progress.total}"
            self._bars.update(self._fits[job.id], completed=progress.done, total=progress.total, count=count, note=note)
        elif not self._live and time.monotonic() - self._spoke > _PLAIN_INTERVAL:
            self._spoke = time.monotonic()
            where = f"{progress.unit} {progress.done} of {progress.total}"
            self._say(f"{self._where()} {self._title}{job.label}: {', '.join(filter(None, (where, note)))}")

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Say how the job ended, unless it failed because a job before it did."""
        follows = outcome.status != "ok" and not self._failed.isdisjoint(job.parents)
        if outcome.status != "ok" and (follows or isinstance(job, Point) or outcome.status == "failed"):
            self._failed.add(job.id)
        if job.id not in self._todo and outcome.reused:
            return
        self._join(job)
        self._number += 1
        self._work.reported(job.id, 1, 1)
        if job.id in self._fits:
            self._bars.remove_task(self._fits.pop(job.id))
        text = f"{self._where()} {self._title}{job.label}: {_ending(outcome)}"
        log = self._store.log(job.id)
        if outcome.status == "failed" and not follows and log.exists():
            text += f" (see {log})"
            if is_debug():
                self._console.print(Text(log.read_text(encoding="utf-8")), soft_wrap=True)
        if self._all is not None:
            count = f"{self._number}/{len(self._todo)}"
            self._bars.update(self._all, advance=1, count=count, note="".join(self._left()))
        if not follows:
            self._say(text)

    def _join(self, job: Job) -> None:
        """Count a job that was not there when the run began: a trial that a search added."""
        if job.id not in self._todo:
            self._todo.add(job.id)
            self._work.join(job.id, job.passes if isinstance(job, Trial) else 0)
            if self._all is not None:
                self._bars.update(self._all, total=len(self._todo), count=f"{self._number}/{len(self._todo)}")

    def _say(self, text: str) -> None:
        self._console.print(Text(printable(text, 1000)), highlight=False, soft_wrap=True)

    def _where(self) -> str:
        return f"[{self._number}/{len(self._todo)}]"

    def _left(self) -> list[str]:
        seconds = self._work.seconds()
        return [] if seconds is None else [f"{duration(seconds)} left"]


def _in_notebook() -> bool:
    """Whether this is a notebook in which rich can move bars; without ipywidgets it cannot."""
    return Console().is_jupyter and find_spec("ipywidgets") is not None


class Remaining:
    """Estimates the time left, from the training examples seen since the first report.

    What comes before that report, the start of workers and the making of examples, would spoil the first estimates.
    """

    def __init__(self, work: Mapping[str, int], clock: Callable[[], float] = time.monotonic) -> None:
        self._work = dict(work)
        self._clock = clock
        self._shares: dict[str, float] = {}
        self._earlier: dict[str, float] = {}  # shares that an earlier run had done
        self._first: tuple[float, float] | None = None

    def join(self, job_id: str, work: int) -> None:
        """Count a job that was added later."""
        self._work[job_id] = work

    def reported(self, job_id: str, done: int, total: int) -> None:
        """Note how far a job has got."""
        self._earlier.setdefault(job_id, (done - 1) / total)
        self._shares[job_id] = done / total
        if self._first is None:
            self._first = self._clock(), self._seen()

    def seconds(self) -> float | None:
        """Return the time left; None as long as nothing is known."""
        if self._first is None:
            return None
        start, before = self._first
        seen = self._seen() - before
        if seen <= 0:
            return None
        done = sum(self._work[job] * share for job, share in list(self._shares.items()))
        return (self._clock() - start) * (sum(self._work.values()) - done) / seen

    def _seen(self) -> float:
        """Return the training examples that this run has seen."""
        shares = list(self._shares.items())  # another thread may add to them
        return sum(self._work[job] * (share - self._earlier[job]) for job, share in shares)


def _ending(outcome: Outcome) -> str:
    if outcome.status != "ok":
        return f"{outcome.status}: {outcome.reason}"
    if outcome.reused:
        return "done meanwhile by another run"
    result = outcome.result
    if "metrics" in result:
        return f"scored, {SCORE} {result['metrics'][SCORE]:.3g}"
    return f"validation {result['validation']:.3g} in {duration(result['train_seconds'])}"
