"""``pdefm status``: what runs, what is done, what failed and why, and the time left."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from pdebench_fm._util.text import duration, printable
from pdebench_fm.errors import UsageError

_SHOWN = 10


@click.command()
@click.argument("output", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"))
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
    from pdebench_fm.run.status import read_runs

    runs = read_runs(output)
    if as_json:
        click.echo(json.dumps([{**asdict(run), "folder": str(run.folder)} for run in runs], indent=1))
        return
    if not runs:
        click.echo(f"no runs in {output}", err=True)
    for run in runs:
        counts = [f"{run.count(state)} {state}" for state in ("done", "running", "interrupted", "failed", "waiting")]
        left = run.seconds_left
        line = f"{run.suite} · {run.model} · {run.profile}: {len(run.jobs)} jobs, {', '.join(counts)}"
        click.echo(printable(line + (f"; about {duration(left)} left" if left is not None else ""), 1000))
        for job in run.jobs:
            if job.progress is not None:
                best = "" if job.progress.best is None else f", best loss {job.progress.best:.3g}"
                where = f"{job.progress.unit} {job.progress.done} of {job.progress.total}" if job.progress.total else ""
                line = f"  {job.state}: {job.label}: {where}{best} on {job.progress.host}"
                click.echo(printable(line, 1000))
        failed = [job for job in run.jobs if job.state == "failed"]
        for job in failed[:_SHOWN]:
            click.echo(printable(f"  failed: {job.label}: {job.reason} (see {job.log})", 1000))
        if len(failed) > _SHOWN:
            click.echo(f"  … and {len(failed) - _SHOWN} more that failed")
