"""``pdefm run``: score a model on a suite."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm.errors import UsageError
from pdebench_fm.messages import printable, show

if TYPE_CHECKING:
    from pdebench_fm.api import Prepared

SOME_FAILED = 3
_MOST_WORKERS = 8
_WIDE = 1000  # columns where there is no terminal: nothing is cut off


@click.command()
@click.argument("suite")
@click.option("--model", metavar="NAME", help="A registered model, see pdefm list models.  [required]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override an argument of the model, see pdefm show model NAME; may be repeated.",
)
@click.option("--profile", metavar="NAME", help="Scale of the suite, see pdefm validate SUITE; by default its own.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Seeds to average over, each with its own few-shot sets and initialisation; by default the profile's.",
)
@click.option(
    "--pretrained", metavar="PATH", type=click.Path(path_type=Path), help="Your own weights instead of pre-training."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--nproc", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Processes per trial."
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    help="Jobs done side by side on a CPU; by default one per core, at most 8.",
)
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    help="Of training: float32, tf32, bfloat16 or float64. Scores are always taken in float32.",
)
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of results; what it holds already is not computed again.",
)
@click.option("--dry-run", is_flag=True, help="Show the jobs and what they will cost; compute and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print records (or the dry run) as JSON.")
def run(
    suite: str,
    model: str | None,
    settings: tuple[str, ...],
    profile: str | None,
    seeds: int | None,
    pretrained: Path | None,
    device: str,
    nproc: int,
    workers: int | None,
    precision: str,
    output: Path,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Score a model on SUITE, a shipped suite's name or the path of a suite file.

    The same command again continues where it stopped, and does nothing where all is done; jobs that failed are tried
    again. A table goes to standard output; records, table and figures are kept in DIR/<suite>/<model>/.

    Exit codes: 0 all scored, 3 some points failed or diverged, 2 bad usage, 130 Ctrl-C, 143 SIGTERM.
    """
    if model is None:
        from pdebench_fm.plugins import registry

        raise UsageError(f"--model is missing; expected one of {', '.join(registry().names('models'))}")
    if nproc != 1:
        raise UsageError(f"--nproc must be 1, got {nproc}: training one trial over several processes is not there yet")
    from pdebench_fm.api import prepare

    prepared = prepare(
        model,
        suite,
        profile,
        arguments=parse_settings(settings),
        seeds=seeds,
        pretrained=pretrained,
        device=device,
        precision=precision,
        output=output,
    )
    if dry_run:
        _show_plan(prepared, _worker_count(prepared, workers), as_json)
        return 0
    return _run(prepared, workers, as_json)


def _worker_count(prepared: Prepared, asked: int | None) -> int:
    """Processes side by side: as asked, else one per core on a CPU."""
    from pdebench_fm.api import cpu_count

    if prepared.device != "cpu":
        return 1
    return asked if asked is not None else min(cpu_count(), _MOST_WORKERS)


def _run(prepared: Prepared, workers: int | None, as_json: bool) -> int:
    from pdebench_fm.api import execute
    from pdebench_fm.cli.progress import RunProgress
    from pdebench_fm.runner import pending

    todo = {job.id for job in pending(prepared.plan, prepared.registry, prepared.output)}
    most = _worker_count(prepared, workers)
    with RunProgress(prepared.plan, todo) as progress:
        result = execute(prepared, progress, min(most, max(1, len(todo))))
    if as_json:
        click.echo(json.dumps([record.model_dump(mode="json", by_alias=True) for record in result.records], indent=1))
    else:
        _print_table(prepared, result.records)
        click.echo(f"records, table and figures: {printable(str(result.folder), 1000)}", err=True)
    for record in result.records:
        if record.status not in ("ok", "unsupported"):
            seed = f" · seed {record.seed}" if record.seed else ""
            where = f"{record.task} · {record.protocol} · N={record.examples}{seed}"
            click.echo(printable(f"{record.status}: {where}: {record.reason}", 1000), err=True)
    return 0 if result.complete else SOME_FAILED


def _print_table(prepared: Prepared, records: list[Any]) -> None:
    from rich.console import Console

    from pdebench_fm.api import planned_cells
    from pdebench_fm.tables import build_table, to_rich

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE)
    for table in to_rich(build_table(records, planned_cells(prepared.plan))):
        console.print(table)


def _show_plan(prepared: Prepared, workers: int, as_json: bool) -> None:
    import torch

    from pdebench_fm.api import cpu_count
    from pdebench_fm.cli.progress import duration
    from pdebench_fm.estimate import estimate
    from pdebench_fm.plan import trained_examples
    from pdebench_fm.runner import pending

    plan = prepared.plan
    todo = list(pending(plan, prepared.registry, prepared.output))
    torch.set_num_threads(max(1, cpu_count() // workers))
    cost = estimate(plan, todo, prepared.registry, prepared.device)
    waiting = {job.id for job in todo}
    jobs = [
        {
            "job_id": job.id,
            "kind": job.kind,
            "label": job.label,
            "done": job.id not in waiting,
            "training_examples": trained_examples(job),
        }
        for job in plan.jobs.values()
    ]
    unsupported = [
        f"{row.task} · {row.protocol} · N={row.examples}: {row.unsupported}" for row in plan.rows if row.unsupported
    ]
    if as_json:
        totals = {"training_examples": cost.examples, "seconds": cost.seconds / workers, "bytes": cost.bytes}
        click.echo(json.dumps({"jobs": jobs, "unsupported": unsupported, "left": totals}, indent=1))
        return
    for job in jobs:
        state = "done" if job["done"] else "to do"
        click.echo(printable(f"{state:<6}{job['kind']:<6} {str(job['job_id'])[:12]}  {job['label']}", 1000))
    for line in unsupported:
        click.echo(printable(f"unsupported  {line}", 1000))
    trials = sum(job.kind == "trial" for job in todo)
    click.echo(
        f"{len(jobs)} jobs, {len(jobs) - len(todo)} reused; to do: {trials} trials and {len(todo) - trials} points, "
        f"{cost.examples:,} training examples, about {duration(cost.seconds / workers)} and {cost.bytes / 1e6:,.1f} MB "
        f"on {prepared.device}"
    )


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``key=value`` of every ``--set``; a value is JSON where it can be, otherwise text."""
    settings: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"--set takes KEY=VALUE, got {show(text)}")
        if key in settings:
            raise UsageError(f"--set {printable(key)}: given twice")
        try:
            settings[key] = json.loads(value)
        except (ValueError, RecursionError):  # RecursionError: brackets without end
            settings[key] = value
    return settings
