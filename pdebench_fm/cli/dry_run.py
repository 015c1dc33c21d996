"""``pdefm run --dry-run``: what is left of a run, and what each part of it will cost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm._util.logs import is_verbose
from pdebench_fm._util.text import counted, duration, megabytes, printable, terminal_width

if TYPE_CHECKING:
    from pdebench_fm.plan.estimate import Estimate, Part
    from pdebench_fm.plan.gpus import Gpu
    from pdebench_fm.plan.plan import Plan

_PATIENCE = 60 * 86400  # seconds
SIDE_BY_SIDE = (1, 8, 64)
"""Numbers of GPUs for which the time is told."""


def show(plans: Sequence[Plan], workers: int, as_json: bool, gpu: Gpu | None = None) -> None:
    """Print what is left of the plan of a model, or of each member of a family; compute and write nothing."""
    import torch

    from pdebench_fm.plan.estimate import estimate
    from pdebench_fm.run.executors import threads_of_a_job
    from pdebench_fm.run.scheduling import pending

    torch.set_num_threads(threads_of_a_job())
    left = [pending(plan) for plan in plans]
    costs = [estimate(plan, todo, gpu) for plan, todo in zip(plans, left, strict=True)]
    if as_json:
        about = _about(plans, left, costs, workers)
        if gpu is not None:
            about["device"] = vars(gpu)
            about["left"] |= on_gpus(plans, costs)
        click.echo(json.dumps(about, indent=1))
        return
    if is_verbose():
        _list_jobs(plans, left)
    _list_unsupported(plans)
    _print_table(plans, costs, workers, "time" if gpu is None else f"{gpu.name} time")
    if any(left) and gpu is not None:
        _print_walls(plans, costs, gpu)
    elif any(left):
        size = megabytes(sum(cost.bytes for cost in costs))
        side = f"{workers} jobs side by side" if workers > 1 else "one job at a time"
        click.echo(f"Weights take about {size}. Times are rough: on {plans[0].device}, {side}. -v lists the jobs.")
        if extend := plans[0].profile.extend:
            click.echo(f"Not counted: searches that stay open try up to {counted(extend, 'learning rate')} more.")


def on_gpus(plans: Sequence[Plan], costs: Sequence[Estimate]) -> dict[str, Any]:
    """Return the time on several GPUs, one model after the other, and the chain of jobs that bounds it."""
    from pdebench_fm.plan.order import longest_chain, wall_seconds

    walls = dict.fromkeys(map(str, SIDE_BY_SIDE), 0.0)
    chain: list[dict[str, Any]] = []
    for plan, cost in zip(plans, costs, strict=True):
        left = [job for job in plan.jobs.values() if job.id in cost.of_jobs]
        for number in SIDE_BY_SIDE:
            walls[str(number)] += wall_seconds(left, cost.of_jobs, number)
        chain += [
            {"label": f"{_title(plan, plans)}{job.label}", "seconds": cost.of_jobs[job.id]}
            for job in longest_chain(left, cost.of_jobs)
        ]
    return {"files": sum(cost.files for cost in costs), "wall_seconds": walls, "longest_chain": chain}


def _print_walls(plans: Sequence[Plan], costs: Sequence[Estimate], gpu: Gpu) -> None:
    from pdebench_fm.plan.gpus import LAUNCH, SHARE

    about = on_gpus(plans, costs)
    for number, seconds in about["wall_seconds"].items():
        click.echo(f"on {number:>2} {gpu.name}: {duration(seconds)}")
    chain = about["longest_chain"]
    click.echo(f"longest chain of jobs: {duration(sum(job['seconds'] for job in chain))}")
    for job in chain:
        click.echo(printable(f"  {duration(job['seconds'])}: {job['label']}", 1000))
    size = megabytes(sum(cost.bytes for cost in costs))
    click.echo(f"They write about {size} in {about['files']:,} files and folders.")
    rates = f"{gpu.flops / 1e12:g} TFLOP/s in float32, {gpu.bytes / 1e12:g} TB/s; {gpu.source}"
    click.echo(f"Assumed: {SHARE:.0%} of the data sheet ({rates}), {LAUNCH * 1e6:g} µs an operation. See docs/cost.md.")


def _list_jobs(plans: Sequence[Plan], left: Sequence[Collection[str]]) -> None:
    for plan, todo in zip(plans, left, strict=True):
        for job in plan.jobs.values():
            state = "to do" if job.id in todo else "done"
            click.echo(printable(f"{state:<6}{job.kind:<6} {job.id[:12]}  {_title(plan, plans)}{job.label}", 1000))


def _list_unsupported(plans: Sequence[Plan]) -> None:
    """Print each reason once, with the number of rows it concerns; with -v, every row."""
    for plan in plans:
        for line in _unsupported(plan) if is_verbose() else ():
            click.echo(printable(f"unsupported  {_title(plan, plans)}{line}", 1000))
        reasons = Counter(row.unsupported for row in plan.rows if row.unsupported)
        for reason, rows in reasons.items() if not is_verbose() else ():
            click.echo(printable(f"unsupported  {_title(plan, plans)}{counted(rows, 'row')}: {reason}", 1000))


def _print_table(plans: Sequence[Plan], costs: Sequence[Estimate], workers: int, time: str) -> None:
    from pdebench_fm.tables.summary import TextGrid

    head = f"{plans[0].suite.name} · {plans[0].profile_name}"
    lines: list[tuple[str, ...]] = [(head, "jobs", "done", "to do", "training examples", time)]
    for plan, cost in zip(plans, costs, strict=True):
        for name, part in cost.parts.items():
            lines.append((f"{_title(plan, plans)}{name}", *_cells([part], workers)))
    every = [part for cost in costs for part in cost.parts.values()]
    seconds = sum(part.seconds for part in every) / workers
    lines.append(("in all", *_cells(every, workers)))
    click.echo(TextGrid(lines[0], lines[1:], labels=1).text(terminal_width()))
    if seconds > _PATIENCE and time == "time":
        click.echo(f"{duration(seconds)}: not on this machine")


def _cells(parts: Sequence[Part], workers: int) -> tuple[str, ...]:
    """Return what is shown of some parts together."""

    def total(name: str) -> Any:
        return sum(getattr(part, name) for part in parts)

    counts = (counted(total("trials"), "trial"), counted(total("points"), "point"))
    todo = ", ".join(count for count in counts if not count.startswith("0 "))
    time = duration(total("seconds") / workers) if todo else ""
    return f"{total('jobs'):,}", f"{total('reused'):,}", todo or "nothing", f"{total('examples'):,}", time


def _title(plan: Plan, plans: Sequence[Plan]) -> str:
    """Return the model's name for the start of a line, if several models are planned."""
    return f"{plan.model.name} · " if len(plans) > 1 else ""


def _about(
    plans: Sequence[Plan], left: Sequence[Collection[str]], costs: Sequence[Estimate], workers: int
) -> dict[str, Any]:
    """Return the same for a program; everything names its model."""
    from pdebench_fm.plan.job import Trial

    several = len(plans) > 1
    jobs: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    unsupported: list[str] = []
    for one, todo, cost in zip(plans, left, costs, strict=True):
        model = one.model.name
        jobs += [
            {
                "job_id": job.id,
                "kind": job.kind,
                "model": model,
                "label": job.label,
                "done": job.id not in todo,
                "training_examples": job.passes if isinstance(job, Trial) else 0,
            }
            for job in one.jobs.values()
        ]
        parts += [
            {
                "model": model,
                "part": name,
                "jobs": part.jobs,
                "reused": part.reused,
                "trials": part.trials,
                "points": part.points,
                "training_examples": part.examples,
                "seconds": part.seconds / workers,
            }
            for name, part in cost.parts.items()
        ]
        unsupported += [f"{model} · {line}" if several else line for line in _unsupported(one)]
    totals = {
        "training_examples": sum(cost.examples for cost in costs),
        "seconds": sum(cost.seconds for cost in costs) / workers,
        "bytes": sum(cost.bytes for cost in costs),
    }
    return {"jobs": jobs, "unsupported": unsupported, "parts": parts, "left": totals}


def _unsupported(one: Plan) -> list[str]:
    return [f"{row.task} · {row.protocol} · N={row.examples}: {row.unsupported}" for row in one.rows if row.unsupported]
