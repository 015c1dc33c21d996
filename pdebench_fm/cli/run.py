"""``pdefm run``: score a model on a suite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from pdebench_fm.api import Prepared

SOME_FAILED = 3
_MOST_WORKERS = 8


@click.command()
@click.argument("suite")
@click.option("--model", required=True, help="A registered model, see pdefm list models.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override an argument of the model.")
@click.option("--profile", help="Scale of the suite; its default where not given.")
@click.option("--seeds", type=click.IntRange(min=1), help="Number of seeds; the profile's where not given.")
@click.option("--pretrained", type=click.Path(path_type=Path), help="Your own weights instead of pre-training.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--nproc", type=click.IntRange(min=1), default=1, show_default=True, help="Processes per trial.")
@click.option("--workers", type=click.IntRange(min=1), help="Jobs side by side on a CPU; one per core, at most 8.")
@click.option("--precision", default="float32", show_default=True, help="float32, tf32, bfloat16 or float64.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"), show_default=True)
@click.option("--dry-run", is_flag=True, help="Show the jobs and what they will cost; compute and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print records (or the dry run) as JSON.")
def run(
    suite: str,
    model: str,
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

    The same command again continues where it stopped, and does nothing where all is done.
    """
    if nproc != 1:
        raise UsageError(f"--nproc must be 1, got {nproc}: training one trial over several processes is not there yet")
    from pdebench_fm.api import prepare

    prepared = prepare(
        model,
        suite,
        profile,
        arguments=dict(map(parse_setting, settings)),
        seeds=seeds,
        pretrained=pretrained,
        device=device,
        precision=precision,
        output=output,
    )
    if dry_run:
        _show_plan(prepared, as_json)
        return 0
    return _run(prepared, workers, as_json)


def _run(prepared: Prepared, workers: int | None, as_json: bool) -> int:
    from pdebench_fm.api import cpu_count, execute
    from pdebench_fm.cli.progress import RunProgress
    from pdebench_fm.runner import pending

    todo = {job.id for job in pending(prepared.plan, prepared.registry, prepared.output)}
    most = workers if workers is not None else min(cpu_count(), _MOST_WORKERS)
    with RunProgress(prepared.plan, todo) as progress:
        result = execute(prepared, progress, min(most, max(1, len(todo))))
    if as_json:
        click.echo(json.dumps([record.model_dump(mode="json", by_alias=True) for record in result.records], indent=1))
    else:
        _print_table(prepared, result.records)
        click.echo(f"records, table and figures: {result.folder}", err=True)
    return 0 if result.complete else SOME_FAILED


def _print_table(prepared: Prepared, records: list[Any]) -> None:
    from rich.console import Console

    from pdebench_fm.api import planned_cells
    from pdebench_fm.tables import build_table, to_rich

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    for table in to_rich(build_table(records, planned_cells(prepared.plan))):
        console.print(table)


def _show_plan(prepared: Prepared, as_json: bool) -> None:
    from pdebench_fm.cli.progress import duration
    from pdebench_fm.estimate import estimate
    from pdebench_fm.plan import trained_examples
    from pdebench_fm.runner import pending

    plan = prepared.plan
    todo = list(pending(plan, prepared.registry, prepared.output))
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
        totals = {"training_examples": cost.examples, "seconds": cost.seconds, "bytes": cost.bytes}
        click.echo(json.dumps({"jobs": jobs, "unsupported": unsupported, "left": totals}, indent=1))
        return
    for job in jobs:
        click.echo(f"{'done' if job['done'] else 'to do':<6}{job['kind']:<6} {str(job['job_id'])[:12]}  {job['label']}")
    for line in unsupported:
        click.echo(f"unsupported  {line}")
    trials = sum(job.kind == "trial" for job in todo)
    click.echo(
        f"{len(jobs)} jobs, {len(jobs) - len(todo)} reused; to do: {trials} trials and {len(todo) - trials} points, "
        f"{cost.examples:,} training examples, about {duration(cost.seconds)} and {cost.bytes / 1e6:,.1f} MB "
        f"on {prepared.device}"
    )


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``key=value``; the value as JSON where it is, otherwise as text."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise UsageError(f"--set takes KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
