"""``pdefm run --dry-run``: the jobs of a run, what is done already, and what each part of the rest will cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm._util.text import duration, megabytes, printable
from pdebench_fm.cli.logs import is_verbose

_PATIENCE = 60 * 86400  # seconds

if TYPE_CHECKING:
    from pdebench_fm.plan.estimate import Estimate, Part
    from pdebench_fm.plan.plan import Plan


def show(every: Sequence[Plan], workers: int, as_json: bool) -> None:
    """Print the plan of a model, or of each member of a family; compute and write nothing.

    Args:
        every: one entry per model.
        workers: jobs that would be done side by side; times are divided by it.
        as_json: print one object for a program instead of lines.
    """
    import torch

    from pdebench_fm.plan.estimate import estimate
    from pdebench_fm.run.executors import threads_of
    from pdebench_fm.run.runner import pending

    torch.set_num_threads(threads_of(workers))
    left = [{id: one.jobs[id] for id in pending(one)} for one in every]
    costs = [estimate(one, todo, one.registry, one.device) for one, todo in zip(every, left, strict=True)]
    if as_json:
        click.echo(json.dumps(_about(every, left, costs, workers), indent=1))
        return
    several = len(every) > 1
    for one, todo, cost in zip(every, left, costs, strict=True):
        model = f"{one.model.name} · " if several else ""
        for job in one.jobs.values() if is_verbose() else ():
            state = "to do" if job.id in todo else "done"
            click.echo(printable(f"{state:<6}{job.kind:<6} {job.id[:12]}  {model}{job.label}", 1000))
        for line in _unsupported(one):
            click.echo(printable(f"unsupported  {model}{line}", 1000))
        width = max(map(len, cost.parts), default=0)
        for name, part in cost.parts.items():
            click.echo(printable(f"{model}{name:<{width}}  {_sentence([part], workers)}", 1000))
        if several and cost.parts:
            click.echo(printable(f"{model}{_total([cost], workers)} on {one.device}", 1000))
    click.echo(f"{_total(costs, workers)} on {every[0].device}")


def _about(
    every: Sequence[Plan], left: Sequence[dict[str, Any]], costs: Sequence[Estimate], workers: int
) -> dict[str, Any]:
    """Return the same for a program; each part names its model."""
    from pdebench_fm.plan.job import Trial

    several = len(every) > 1
    jobs: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    unsupported: list[str] = []
    for one, todo, cost in zip(every, left, costs, strict=True):
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


def _sentence(parts: Sequence[Part], workers: int) -> str:
    def total(name: str) -> Any:
        return sum(getattr(part, name) for part in parts)

    return (
        f"{total('jobs')} jobs, {total('reused')} reused; "
        f"to do: {total('trials')} trials and {total('points')} points, "
        f"{total('examples'):,} training examples, about {_time(total('seconds') / workers)}"
    )


def _total(costs: Sequence[Estimate], workers: int) -> str:
    parts = [part for cost in costs for part in cost.parts.values()]
    return f"{_sentence(parts, workers)} and {megabytes(sum(cost.bytes for cost in costs))}"


def _time(seconds: float) -> str:
    """Return a rough time, and say so if this machine is too slow."""
    return duration(seconds) + (" (not on this machine)" if seconds > _PATIENCE else "")
