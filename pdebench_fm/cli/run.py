"""``pdefm run``: score a model on a suite."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm._util.text import counted, printable, show
from pdebench_fm.cli import completion
from pdebench_fm.cli.context import current_registry
from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from pdebench_fm.plan.gpus import Gpu
    from pdebench_fm.plan.plan import Plan
    from pdebench_fm.registry.arguments import Written
    from pdebench_fm.run.runner import RunResult

SOME_FAILED = 3
_MOST_SEEDS = 1000  # MOST_SEEDS of pdebench_fm.suite.reading, which takes long to import


@click.command()
@click.argument("suite", shell_complete=completion.suites)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.names_of("models"),
    help="A registered model, or a family of them in a suite for families; see pdefm list models. Several are compared "
    "in one table.  [required]",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override an argument of the model, see pdefm show model NAME; may be repeated. The variant gets a name and a "
    "folder of its own, e.g. unet,width=16.",
)
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=completion.profiles,
    help="Scale of the suite, see pdefm validate SUITE; by default its own.",
)
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Run only this task; may be repeated.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1, max=_MOST_SEEDS),
    metavar="N",
    help="Seeds to average over, each with its own few-shot sets and initialisation; by default the profile's.",
)
@click.option(
    "--pretrained",
    metavar="PATH",
    type=FilePath(),
    help="Your own weights instead of pre-training.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda or cuda:N. With --dry-run also a GPU by its name, e.g. h200, that is not here.",
)
@click.option(
    "--executor",
    metavar="NAME",
    shell_complete=completion.names_of("executors"),
    default="local",
    show_default=True,
    help="Where jobs run: local (processes on this machine), debug (this process), or one that a plugin registers.",
)
@click.option(
    "--executor-set",
    "executor_settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the executor, see pdefm show executor NAME; may be repeated.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    help="Jobs done side by side. By default one per core on a CPU, at most 8, and one on GPUs. With --device cuda, "
    "workers are dealt out over all visible GPUs; with cuda:N they share that one.",
)
@click.option(
    "--nproc",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that fit each trial together, started by torchrun: gloo on a CPU, NCCL with one GPU each.",
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
    type=FilePath(file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of results; what it holds already is not computed again.",
)
@click.option(
    "--detach", is_flag=True, help="Submit and leave; without it, the command collects. For executors of a cluster."
)
@click.option("--dry-run", is_flag=True, help="Show the jobs, what is reused, and what each part will cost.")
@click.option("--json", "as_json", is_flag=True, help="Print records (or the dry run) as JSON.")
def run(
    suite: str,
    models: tuple[str, ...],
    settings: tuple[str, ...],
    profile: str | None,
    tasks: tuple[str, ...],
    seeds: int | None,
    pretrained: Path | None,
    device: str,
    executor: str,
    executor_settings: tuple[str, ...],
    workers: int | None,
    nproc: int,
    precision: str,
    output: Path,
    detach: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Score models on SUITE, a shipped suite's name or the path of a suite file.

    The same command again continues an interrupted run, and does nothing if all is done; failed jobs are tried again. A
    table goes to standard output. Records, table and figures are kept in DIR/<suite>/<model>/. In a suite for families,
    such as scaling, NAME may be a family: all its sizes are then run, each as a model of its own.

    Exit codes: 0 all scored (or unsupported), 3 some points failed or diverged, 1 failure, 2 bad usage, 130 Ctrl-C,
    143 SIGTERM.
    """
    registry = current_registry()
    if not models:
        raise UsageError(f"--model is missing; expected one of {', '.join(registry.names('models'))}")
    from pdebench_fm.run import distributed

    together = nproc > 1 or distributed.started_by_torchrun()
    if together and (workers or 1) > 1:
        raise UsageError("--workers runs jobs side by side, --nproc fits each job in several processes: choose one")
    if nproc > 1 and distributed.started_by_torchrun():
        raise UsageError("torchrun has started the processes that fit each trial: leave out --nproc")

    from pdebench_fm.api import executor_settings as check_executor
    from pdebench_fm.run.executors import workers_by_default
    from pdebench_fm.run.prepare import prepare

    elsewhere = registry.get("executors", executor).elsewhere
    settings_of_executor = parse_settings(executor_settings, "--executor-set")
    check_executor(registry, executor, settings_of_executor, workers)
    gpu = _gpu(device, dry_run)
    if gpu is not None:
        device, elsewhere = "cuda", True
    if elsewhere and together:
        raise UsageError(f"--executor {executor} starts processes itself: see its settings, not --nproc or torchrun")
    if elsewhere and device == "auto":
        gpus = settings_of_executor.get("gpus")
        device = "cuda" if gpus is not None and gpus.read() else "cpu"
    plans = prepare(
        models,
        suite,
        profile,
        arguments=parse_settings(settings),
        tasks=tasks,
        seeds=seeds,
        pretrained=pretrained,
        device=device,
        precision=precision,
        output=output,
        installed=registry,
        elsewhere=elsewhere,
    )
    if together and plans[0].precision == "tf32":
        from pdebench_fm.run.devices import check_precision

        check_precision("tf32", plans[0].device)
    count = 1 if together else workers or workers_by_default(plans[0].device)
    if dry_run:
        if distributed.is_main_process():
            from pdebench_fm.cli import dry_run as dry

            dry.show(plans, 1 if gpu else _times_faster(plans[0].device, count), as_json, gpu)
        return 0
    if nproc > 1:
        distributed.device_of_rank(plans[0].device, nproc - 1)  # fails if there are too few GPUs
        from pdebench_fm.run.scheduling import pending
        from pdebench_fm.training import launch

        if any(pending(plan) for plan in plans):  # otherwise this process can say all there is
            return launch(nproc, ["-P", "-m", "pdebench_fm.cli", *_without_nproc(sys.argv[1:])])
    if profile is None and len(plans[0].suite.profiles) > 1 and distributed.is_main_process():
        _name_profile(plans[0])
    if detach:
        submitted = [_submitted(plan, executor, settings_of_executor) for plan in plans]
        if any(submitted):
            return 0
    try:
        return _run(plans, executor, settings_of_executor, count, as_json)
    except KeyboardInterrupt:
        click.echo("what is done is kept; the same command goes on", err=True)
        raise


def _gpu(device: str, dry_run: bool) -> Gpu | None:
    """Return the GPU that a dry run names; None if the device is one of torch's."""
    from pdebench_fm.plan.gpus import GPUS, find_gpu

    if re.fullmatch(r"auto|cpu|cuda(:.*)?", device) or (not dry_run and device not in GPUS):
        return None
    if not dry_run:
        raise UsageError(f"--device {device} names a kind of GPU for --dry-run; a run takes auto, cpu, cuda or cuda:N")
    return find_gpu(device)


def _submitted(plan: Plan, executor: str, settings: dict[str, Any]) -> bool:
    """Submit what is left of a plan, if there is anything, and say so."""
    from pdebench_fm.api import submit

    number = submit(plan, executor, settings)
    if number:
        jobs = "1 job is" if number == 1 else f"{number:,} jobs are"
        model = printable(plan.model.name)
        click.echo(f"{model}: {jobs} queued; pdefm status shows them, the same command later collects them", err=True)
    return number > 0


def _name_profile(plan: Plan) -> None:
    """Say which profile was taken, and what the study's own scale is."""
    others = [name for name in plan.suite.profiles if name != plan.profile_name]
    paper = "; --profile paper is the scale of the study" if "paper" in others else ""
    click.echo(printable(f"profile {plan.profile_name}{paper}", 1000), err=True)


def _without_nproc(arguments: Sequence[str]) -> list[str]:
    """Return a command line without --nproc and its value."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--nproc":
            skip = not skip
        elif not argument.startswith("--nproc="):
            kept.append(argument)
    return kept


def _times_faster(device: str, workers: int) -> int:
    """Return by how much workers divide the time of a dry run: those that share a GPU count once."""
    from pdebench_fm.run.executors import gpus_of

    return workers if device == "cpu" else min(workers, len(gpus_of(device)) or 1)


def _run(plans: Sequence[Plan], executor: str, settings: dict[str, Any], workers: int, as_json: bool) -> int:
    """Run one model after the other; print their results together at the end."""
    from pdebench_fm.cli.results import print_summaries, warn_of_differences
    from pdebench_fm.records.failures import failure_lines

    results = []
    for plan in plans:
        result = _run_one(plan, executor, settings, workers, f"{plan.model.name} · " if len(plans) > 1 else "")
        if result is not None:  # otherwise another process speaks for all
            results.append(result)
    scored = [record for result in results for record in result.records]
    if as_json and results:
        click.echo(json.dumps([record.model_dump(mode="json", by_alias=True) for record in scored], indent=1))
    elif results:
        print_summaries(scored, plans[0].cells)
    for plan, result in zip(plans, results, strict=False):
        if result.others:  # records of one run agree
            warn_of_differences([(str(result.folder / "records.jsonl"), r) for r in (*result.others, *result.records)])
        _warn_of_coefficients(plan, result.records)
    for line in failure_lines(scored):
        click.echo(printable(line, 1000), err=True)
    for result in results if not as_json else ():
        click.echo(f"records, table and figures: {printable(str(result.folder), 1000)}", err=True)
    return 0 if all(result.complete for result in results) else SOME_FAILED


def _run_one(plan: Plan, executor: str, settings: dict[str, Any], workers: int, title: str) -> RunResult | None:
    """Run one model; None in processes that only help rank 0."""
    from pdebench_fm.api import score
    from pdebench_fm.run.distributed import device_of_rank, join_world
    from pdebench_fm.run.reporting import RunProgress
    from pdebench_fm.run.scheduling import pending

    world = join_world(plan.device)
    if world.size > 1:
        plan.device = device_of_rank(plan.device, world.local_rank)
    if not world.is_main:
        score(plan, world=world)
        return None
    todo = pending(plan)
    if not todo or world.size > 1:  # a run with nothing left to do starts no workers, and ranks are themselves workers
        executor, settings = "debug", {}
    with RunProgress(plan, todo, title) as progress:
        return score(
            plan,
            executor=executor,
            executor_settings=settings,
            workers=workers,
            reporter=progress,
            world=world,
        )


def _warn_of_coefficients(plan: Plan, records: list[Any]) -> None:
    """Warn if a model hardly uses its coefficients; its errors do not show it."""
    from pdebench_fm.records.coefficient_use import change, coefficient_use

    use = coefficient_use(records, frozenset(plan.cells))
    if use is None:
        return
    places = {"": use.all} if use.ignored else {f" on {printable(task)}": use.rises[task] for task in use.ignored_on}
    for place, rises in places.items():
        points = counted(len(rises), "point")
        click.echo(
            f"{printable(plan.model.name)} hardly uses its coefficients{place}: exchanging them among test "
            f"examples changes its error by {change(rises):.1%} (median over {points}); see docs/scores.md",
            err=True,
        )


def parse_settings(texts: Iterable[str], option: str = "--set") -> dict[str, Written]:
    """Read ``key=value`` of every ``--set``; the parameter says whether a value is JSON or text."""
    from pdebench_fm.registry.arguments import Written

    settings: dict[str, Written] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"{option} takes KEY=VALUE, got {show(text)}")
        if key in settings:
            raise UsageError(f"{option} {printable(key)}: given twice")
        settings[key] = Written(value)
    return settings
