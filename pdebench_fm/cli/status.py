"""``pdefm status``: what runs, what is done, what failed and why, and the time left."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click

from pdebench_fm._util.text import duration, printable
from pdebench_fm.cli.context import current_registry
from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError
from pdebench_fm.run.progress import JobProgress
from pdebench_fm.run.status import RunStatus, State, read_runs

_SHOWN = 10


@click.command()
@click.argument("output", type=FilePath(file_okay=False), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="Print every job as JSON.")
@click.option("--watch", is_flag=True, help="Print again every few seconds, until Ctrl-C.")
def status(output: Path, as_json: bool, watch: bool) -> int:
    """Show the runs in OUTPUT (by default runs/), while they go on or after they ended."""
    if not output.is_dir():
        raise UsageError(f"{output}: there is no such folder of results")
    while True:
        _show(output, as_json)
        if not watch:
            return 0
        time.sleep(5)
        click.clear()


def _show(output: Path, as_json: bool) -> None:
    runs = read_runs(output, current_registry())
    if as_json:
        click.echo(json.dumps([_about(run) for run in runs], indent=1))
        return
    if not runs:
        click.echo(f"no runs in {output}", err=True)
    for run in runs:
        for line in _lines(run):
            click.echo(printable(line, 1000))


def _about(run: RunStatus) -> dict[str, Any]:
    """Return the run as plain data."""
    jobs = [
        {**vars(job), "progress": job.progress and vars(job.progress), "seconds_left": job.seconds_left}
        for job in run.jobs
    ]
    return {**vars(run), "folder": str(run.folder), "seconds_left": run.seconds_left, "jobs": jobs}


def _lines(run: RunStatus) -> Iterator[str]:
    """Yield a line for the run, one for each job that runs or was interrupted, and the first of those that failed."""
    counts = [f"{number:,} {state}" for state in get_args(State) if (number := run.count(state))]
    left = "" if run.seconds_left is None else f"; about {duration(run.seconds_left)} left"
    if not any(job.state in ("running", "queued") for job in run.jobs) and run.count("done") < len(run.jobs):
        left = "; nothing is running, the same command goes on"
    yield f"{run.suite} · {run.model} · {run.profile}: {len(run.jobs):,} jobs: {', '.join(counts)}{left}"
    begun = [(job, job.progress) for job in run.jobs if job.progress is not None]
    for job, progress in begun[:_SHOWN]:
        left = "" if job.seconds_left is None else f", {duration(job.seconds_left)} left"
        task = f", task {job.task} {job.queue}" if job.queue else ""
        yield f"  {job.state}: {job.label}: {_how_far(progress)}{left} on {progress.host}{task}"
    if len(begun) > _SHOWN:
        yield f"  … and {len(begun) - _SHOWN:,} more; --json has all"
    waiting = Counter(job.queue for job in run.jobs if job.state == "queued" and job.progress is None)
    for told, number in waiting.items():
        yield f"  queued: {number:,} {told}"
    failed = [job for job in run.jobs if job.state == "failed"]
    reasons = {job.reason for job in failed}
    first = [job for job in failed if not any(cause in reasons for cause in _causes(job.reason))]
    for job in first[:_SHOWN]:
        yield f"  failed: {job.label}: {job.reason} (see {job.log})"
    if len(first) > _SHOWN:
        yield f"  … and {len(first) - _SHOWN:,} more that failed; --json has all"
    if len(failed) > len(first):
        yield f"  failed because of them: {len(failed) - len(first):,}"


def _causes(reason: str) -> Iterator[str]:
    """Yield what follows each colon: the reason of a job that needs one which failed ends with that one's."""
    while ": " in reason:
        _, _, reason = reason.partition(": ")
        yield reason


def _how_far(progress: JobProgress) -> str:
    if progress.total == 0:
        return "begins"
    best = "" if progress.best is None else f", best loss {progress.best:.3g}"
    return f"{progress.unit} {progress.done:,} of {progress.total:,}{best}"
