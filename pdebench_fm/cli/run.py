"""``pdefm run``: score a model on a suite."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm._util.text import printable, show
from pdebench_fm.cli import OWN_PROCESS
from pdebench_fm.cli.signals import ended_at_once
from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from pdebench_fm.api import Prepared
    from pdebench_fm.run.runner import RunResult

SOME_FAILED = 3
_MOST_WORKERS = 8
_MOST_SEEDS = 1000  # MOST_SEEDS of pdebench_fm.suite.reading, which takes long to import
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What drivers of GPUs show on Linux; torch would know for certain, but takes seconds to import."""
_WIDE = 1000  # columns where there is no terminal: nothing is cut off


@click.command()
@click.argument("suite")
@click.option(
    "--model",
    metavar="NAME",
    help="A registered model, or a family of them in a suite for families; see pdefm list models.  [required]",
)
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
    type=click.IntRange(min=1, max=_MOST_SEEDS),
    metavar="N",
    help="Seeds to average over, each with its own few-shot sets and initialisation; by default the profile's.",
)
@click.option(
    "--pretrained", metavar="PATH", type=click.Path(path_type=Path), help="Your own weights instead of pre-training."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--nproc",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that fit each trial together: gloo on a CPU, NCCL with one GPU each. Or start pdefm by torchrun.",
)
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(min=1),
    help="Jobs done side by side. On a CPU by default one per core, at most 8; on GPUs one: with --device cuda more "
    "are dealt out over all that are visible, with cuda:N they share that one.",
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
@click.option("--dry-run", is_flag=True, help="Show the jobs, what is reused, and what each part will cost.")
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
    again. A table goes to standard output; records, table and figures are kept in DIR/<suite>/<model>/. In a suite for
    families, such as scaling, NAME may be a family: all its sizes are then run, each as a model of its own.

    Exit codes: 0 all scored (or unsupported), 3 some points failed or diverged, 1 failure, 2 bad usage, 130 Ctrl-C,
    143 SIGTERM.
    """
    if model is None:
        from pdebench_fm.registry import registry

        raise UsageError(f"--model is missing; expected one of {', '.join(registry().names('models'))}")
    if nproc > 1 and workers is not None and workers > 1:
        raise UsageError(
            f"--nproc {nproc} and --workers {workers}: a job has several processes, or several jobs have one"
        )
    # A table that was shown before may leave nothing to do, and in somebody else's process there may be anything.
    ours = click.get_current_context().obj is OWN_PROCESS
    shown_before = os.path.exists(output / Path(suite).stem / model / "table.md")
    with ended_at_once(ours):
        from pdebench_fm.run.distributed import launched_by_torchrun

        if launched_by_torchrun() and (nproc > 1 or (workers or 1) > 1):
            raise UsageError("torchrun has started the processes that fit each trial: leave out --nproc and --workers")
        if ours and not (shown_before or dry_run or nproc > 1 or launched_by_torchrun()):
            _load_workers(device, workers)
        from pdebench_fm.api import prepare_all

        every = prepare_all(
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
        if not dry_run:
            _load_for_later()
    if dry_run:
        from pdebench_fm.cli import dry_run as dry
        from pdebench_fm.run.distributed import speaks

        if speaks():
            dry.show(every, _times_faster(every[0], workers if nproc == 1 else 1), as_json)
            if nproc > 1 or launched_by_torchrun():
                click.echo("times are those of one process; several share the steps of every trial", err=True)
        return 0
    return _run(every, workers, nproc, as_json)


def _load_workers(device: str, asked: int | None) -> None:
    """Begin to load workers while this process imports and plans, unless they may have to use a GPU."""
    from pdebench_fm.run.executors import begin_loading, threads_of

    workers = _workers_on_a_cpu(asked)
    on_cpu = device == "cpu" or (device == "auto" and not any(map(os.path.exists, _GPU_DRIVERS)))
    if workers > 1 and threads_of(workers) == 1 and on_cpu:
        begin_loading()


def _load_for_later() -> None:
    """Import what the run itself needs here, while a signal still ends the process at once."""
    from pdebench_fm import tables  # noqa: F401
    from pdebench_fm.cli import progress  # noqa: F401
    from pdebench_fm.figures import load_matplotlib
    from pdebench_fm.run.executors import is_loading
    from pdebench_fm.scoring import shift  # noqa: F401

    if is_loading():  # needed at the end alone, but now there is a core to spare
        load_matplotlib()


def _worker_count(prepared: Prepared, asked: int | None) -> int:
    """Processes side by side: as asked, else one per core on a CPU."""
    return _workers_on_a_cpu(asked) if prepared.device == "cpu" else asked or 1


def _workers_on_a_cpu(asked: int | None) -> int:
    from pdebench_fm.run.executors import cpu_count

    return asked or min(cpu_count(), _MOST_WORKERS)


def _times_faster(prepared: Prepared, asked: int | None) -> int:
    """By how many processes a dry run divides its times: those that share a GPU count once."""
    from pdebench_fm.api import gpus_of

    count = _worker_count(prepared, asked)
    return count if prepared.device == "cpu" else min(count, len(gpus_of(prepared.device)) or 1)


def _run(every: Sequence[Prepared], workers: int | None, nproc: int, as_json: bool) -> int:
    """Run one model, or the members of a family one after the other; the table of each is shown as it is done."""
    results = []
    for prepared in every:
        title = f"{prepared.plan.model.name} · " if len(every) > 1 else ""
        result = _run_one(prepared, workers, nproc, title)
        if result is None:
            continue
        results.append(result)
        if not as_json:
            _print_table(prepared, result.records)
        _warn_of_coefficients(prepared, result.records)
        if not as_json:
            click.echo(f"records, table and figures: {printable(str(result.folder), 1000)}", err=True)
    scored = [record for result in results for record in result.records]
    if not results:  # this process helped another, which says what came of it
        return 0
    if as_json:
        click.echo(json.dumps([record.model_dump(mode="json", by_alias=True) for record in scored], indent=1))
    for record in scored:
        if record.status not in ("ok", "unsupported"):
            model = f"{record.model} · " if len(every) > 1 else ""
            seed = f" · seed {record.seed}" if record.seed else ""
            where = f"{model}{record.task} · {record.protocol} · N={record.examples}{seed}"
            click.echo(printable(f"{record.status}: {where}: {record.reason}", 1000), err=True)
    return 0 if all(result.complete for result in results) else SOME_FAILED


def _run_one(prepared: Prepared, workers: int | None, nproc: int, title: str) -> RunResult | None:
    """Run one model; None where this process only helped another to do so."""
    from pdebench_fm.api import execute, together
    from pdebench_fm.cli.progress import RunProgress
    from pdebench_fm.run.runner import pending

    todo = {job.id for job in pending(prepared.plan, prepared.registry, prepared.output)}
    most = _worker_count(prepared, workers)
    with together(prepared, nproc if todo else 1) as group:
        if group is not None and not group.leads:
            return None
        with RunProgress(prepared.plan, todo, title) as progress:
            # As many workers however little is left: the bits of a fit depend on how many threads it has.
            return execute(prepared, progress, most if todo else 1, group)


def _print_table(prepared: Prepared, records: list[Any]) -> None:
    from rich.console import Console

    from pdebench_fm.api import planned_cells
    from pdebench_fm.tables import build_table, to_rich

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE)
    for table in to_rich(build_table(records, planned_cells(prepared.plan))):
        console.print(table)


def _warn_of_coefficients(prepared: Prepared, records: list[Any]) -> None:
    """Say so where a model hardly uses its coefficients: its errors alone do not show it."""
    from pdebench_fm.api import planned_cells
    from pdebench_fm.records.coefficient_use import change, coefficient_use

    use = coefficient_use(records, frozenset(planned_cells(prepared.plan)))
    if use is None:
        return
    places = {"": use.all} if use.ignored else {f" on {printable(task)}": use.rises[task] for task in use.ignored_on}
    for place, rises in places.items():
        points = "1 point" if len(rises) == 1 else f"{len(rises)} points"
        click.echo(
            f"{printable(prepared.plan.model.name)} hardly uses its coefficients{place}: exchanging them among test "
            f"examples changes its error by {change(rises):.1%} (median over {points}); see docs/scores.md",
            err=True,
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
