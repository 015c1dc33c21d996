"""``pdefm leaderboard add|build|card|check|solvers|submit|verify``."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdebench_fm.cli import completion
from pdebench_fm.cli.context import current_registry
from pdebench_fm.cli.own_suites import load_suites, suites_option
from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from pdebench_fm.leaderboard import Rules
    from pdebench_fm.records.record import Cell
    from pdebench_fm.suite.schema import Suite

_directory = click.option(
    "--directory",
    type=FilePath(file_okay=False),
    default=Path("leaderboard"),
    show_default=True,
    help="Folder of the leaderboard.",
)
_suites = suites_option("records are checked against its plan, and ranked by it")


_cards = click.option(
    "--card",
    "cards",
    multiple=True,
    metavar="FILE",
    type=FilePath(exists=True, dir_okay=False),
    help="A model card, see `pdefm leaderboard card`. Repeatable.",
)


@click.group()
def leaderboard() -> None:
    """Collect records, build the leaderboard from them, and check it."""


@leaderboard.command()
@click.argument("runs", nargs=-1, required=True, type=FilePath(exists=True))
@click.option(
    "--replace",
    is_flag=True,
    help="Remove records of the same suite, version, profile and model that are not in RUNS, e.g. for a model's next "
    "version.",
)
@_cards
@_directory
@_suites
def add(
    runs: tuple[Path, ...], replace: bool, cards: tuple[Path, ...], directory: Path, suites: tuple[Path, ...]
) -> None:
    """Add the records of RUNS: all of them, or none if one is rejected.

    RUNS are records.jsonl files, or folders searched for them. Records that are malformed, inconsistent, out of range
    or not comparable with those that are there are rejected, with file and line.

    A second measurement of a result that is there is kept beside it as a confirmation. The first one ranks.
    """
    from pdebench_fm.leaderboard import add as add_records

    with _all_refusals():
        report = add_records(directory, runs, _rules(directory, suites), replace=replace, cards=cards)
    cards_written = [f"{file}: written" for file in report.cards]
    for line in (*report.replaced, *report.confirming, *report.skipped, *report.removed, *cards_written):
        click.echo(line, err=True)
    click.echo(report.summary())


@leaderboard.command()
@_directory
@_suites
def build(directory: Path, suites: tuple[Path, ...]) -> None:
    """Write README.md, index.html, leaderboard.csv and leaderboard.json from the records."""
    from pdebench_fm.leaderboard import build as build_files

    if not (directory / "records").is_dir():
        raise UsageError(f"{directory}: not a leaderboard, because it has no folder records/; name another --directory")
    for path in build_files(directory, _rules(directory, suites)):
        click.echo(path)


@leaderboard.command()
@_directory
@_suites
@click.pass_context
def check(context: click.Context, directory: Path, suites: tuple[Path, ...]) -> None:
    """Check every record, and that the files that `build` writes are up to date."""
    from pdebench_fm.leaderboard import check as check_files

    wrong = check_files(directory, _rules(directory, suites))
    for line in wrong:
        click.echo(line)
    if wrong:
        context.exit(1)
    click.echo(f"{directory}: in order")


@leaderboard.command()
@click.argument("suite", shell_complete=completion.suites)
@click.option("--profile", help="Scale of the suite; by default its default profile.")
@click.option("--solver", "solvers", multiple=True, metavar="NAME", help="Measure only this one. Repeatable.")
@click.option("--examples", type=click.IntRange(min=1), metavar="K", help="Solve only the first K test examples.")
@_directory
def solvers(suite: str, profile: str | None, solvers: tuple[str, ...], examples: int | None, directory: Path) -> None:
    """Measure numerical solvers on the test examples of SUITE, and keep the results beside the records.

    Error and seconds per example are measured as for models, on the CPU with one thread. A solver that cannot solve a
    task is named and left out.
    """
    import torch

    from pdebench_fm.leaderboard.solvers import measure_solvers, write_solvers
    from pdebench_fm.run.provenance import provenance
    from pdebench_fm.suite.reading import load_suite

    found = current_registry()
    read = load_suite(suite, found)
    torch.set_num_threads(1)
    names = solvers or found.names("solvers")
    scale = profile or read.default_profile
    written: set[Path] = set()
    for one in measure_solvers(read, scale, found, names, examples, provenance("cpu", found)):
        if isinstance(one, str):
            click.echo(f"left out: {one}", err=True)
            continue
        written.update(write_solvers(directory, [one]))  # at once: a direct solver may take an hour
        click.echo(f"{one.task}, {one.solver}: error {one.error:.3g}, {one.inference_seconds:.2g} s per example")
    for path in sorted(written):
        click.echo(path, err=True)


@leaderboard.command()
@click.argument("runs", nargs=-1, required=True, type=FilePath(exists=True))
@click.option(
    "--cells",
    type=click.IntRange(min=1),
    metavar="K",
    help="Records to check of each model, suite and profile; by default all. They are drawn at random.",
)
@click.option("--seed", metavar="TEXT", help="Repeat a draw of --cells: the seed that it printed.")
@click.option("--retrain", is_flag=True, help="Train again from nothing, instead of scoring the weights in RUNS.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="An argument that records do not keep, such as checkpoint of a released model; may be repeated.",
)
@click.option(
    "--pretrained",
    metavar="PATH",
    type=FilePath(exists=True),
    help="Weights that a run with --pretrained started from.",
)
@click.option("--badge", is_flag=True, help="Note what was verified in the leaderboard, so that build can rank it.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Jobs done side by side.")
@_directory
@_suites
@click.pass_context
def verify(
    context: click.Context,
    runs: tuple[Path, ...],
    cells: int | None,
    seed: str | None,
    retrain: bool,
    settings: tuple[str, ...],
    pretrained: Path | None,
    badge: bool,
    device: str,
    workers: int,
    directory: Path,
    suites: tuple[Path, ...],
) -> None:
    """Compute scores in RUNS again, and compare.

    Without --retrain, RUNS are folders of results with their jobs/, and scores must agree to 1e-5. With it, records are
    enough, and scores and validation errors must agree to 3%, because rounding differs between machines.

    Exit codes: 0 all agree, 1 some do not, 2 bad usage.
    """
    from pdebench_fm.api import make_executor
    from pdebench_fm.cli.run import parse_settings
    from pdebench_fm.leaderboard.badges import add_badges
    from pdebench_fm.registry import registry
    from pdebench_fm.run.devices import resolve_device
    from pdebench_fm.verify import verify as verify_runs

    where = resolve_device(device)
    with make_executor(registry(), "local" if workers > 1 else "debug", {}, workers, where) as executor:
        found = verify_runs(
            runs,
            cells=cells,
            seed=seed,
            retrain=retrain,
            arguments=parse_settings(settings),
            pretrained=pretrained,
            device=where,
            executor=executor,
            suites=_own_suites(directory, suites),
        )
    for one in found:
        for line in one.problems:
            click.echo(line)
        made, agree = one.badge, sum(not check.problem for check in one.checks)
        drawn = f"; seed {made.seed}" if made.seed else ""
        click.echo(
            f"{made.suite} v{made.suite_version}, {made.profile}, {made.model}: {agree} of "
            f"{len(one.checks)} records agree ({made.tier}; largest difference {made.difference:.2g}{drawn})"
        )
    if any(one.problems for one in found):
        context.exit(1)
    if badge:
        add_badges(directory, [one.badge for one in found])


@leaderboard.command()
@click.argument("runs", nargs=-1, required=True, type=FilePath(exists=True))
@_cards
@click.option("--output", type=FilePath(), help="Folder or .zip file for the bundle; by default none.")
@click.option("--weights-url", metavar="URL", help="Where the weights of these runs can be downloaded.")
@click.option("--with-weights", is_flag=True, help="Put the weights into the bundle.")
@_directory
@_suites
def submit(
    runs: tuple[Path, ...],
    cards: tuple[Path, ...],
    output: Path | None,
    weights_url: str | None,
    with_weights: bool,
    directory: Path,
    suites: tuple[Path, ...],
) -> None:
    """Write a bundle of the records of RUNS, and print the text of a pull request: what changes on the leaderboard.

    Refuses what `add` would refuse, and models without a card. The leaderboard itself is not changed.
    """
    from pdebench_fm.leaderboard.bundle import submit as submit_runs
    from pdebench_fm.leaderboard.bundle import weights_of

    rules = _rules(directory, suites)
    weights = weights_of(runs, weights_url, with_weights)
    with _all_refusals():
        text = submit_runs(directory, runs, rules, cards=cards, output=output, weights=weights)
    click.echo(text, nl=False)
    if output is not None:
        click.echo(f"written to {output}", err=True)


@contextmanager
def _all_refusals() -> Iterator[None]:
    """Print every reason of a refusal."""
    from pdebench_fm.leaderboard import RefusedError

    try:
        yield
    except RefusedError as error:
        for line in error.refused[1:]:  # the error itself says the first
            click.echo(line, err=True)
        raise


@leaderboard.command()
@click.argument("model")
@_directory
def card(model: str, directory: Path) -> None:
    """Print a model card to fill in."""
    from pdebench_fm.leaderboard.cards import template
    from pdebench_fm.leaderboard.store import load

    counts = [record.parameters for _, record in load(directory) if record.model == model and record.parameters]
    click.echo(template(model, min(counts, default=0)), nl=False)


def _own_suites(directory: Path, files: Sequence[Path]) -> list[Suite]:
    """Read the suites given, and those that a leaderboard keeps in ``suites/``: versions its older records are of."""
    return load_suites([*files, *sorted((directory / "suites").glob("*.yaml"))])


def _rules(directory: Path, files: Sequence[Path]) -> Rules:
    """Return the rules of what is installed, and of suites given or kept."""
    from pdebench_fm.leaderboard import Rules
    from pdebench_fm.leaderboard.evidence import against_errors
    from pdebench_fm.leaderboard.plans import against_plans
    from pdebench_fm.leaderboard.solvers import solver_problems

    own, found = _own_suites(directory, files), current_registry()
    return Rules(
        planned=partial(planned_cells, own=own),
        verify=lambda located: chain(against_errors(located), against_plans(located, suites=own)),
        check_solvers=lambda located: solver_problems(located, directory, found, own),
    )


def planned_cells(suite: str, version: int, profile: str, own: Sequence[Suite] = ()) -> Collection[Cell] | None:
    """Return every cell that a suite plans; None if this version of it is neither registered nor ``own``."""
    from pdebench_fm.plan.sets import expected_rows
    from pdebench_fm.records.record import Cell
    from pdebench_fm.registry import registry
    from pdebench_fm.suite.reading import find_suite

    found = find_suite(suite, version, registry(), own)
    if found is None:
        return None
    try:
        return {Cell(*row) for row in expected_rows(found, profile, registry())}
    except UsageError:  # no such profile, or a protocol that is not installed
        return None
