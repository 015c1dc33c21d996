"""``pdefm leaderboard add|build|check``."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdebench_fm.errors import PdefmError

if TYPE_CHECKING:
    from pdebench_fm.records import Cell

_directory = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("leaderboard"),
    show_default=True,
    help="Folder of the leaderboard.",
)


@click.group()
def leaderboard() -> None:
    """Collect records, build the leaderboard from them, check that it is what they give."""


@leaderboard.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@_directory
def add(runs: tuple[Path, ...], directory: Path) -> None:
    """Add the records of RUNS: all of them, or none where one is refused.

    RUNS are records.jsonl files, or folders searched for them. Refused is, by file and line, what is malformed,
    contradicts itself, is out of range, or cannot be compared with what is there.
    """
    from pdebench_fm.leaderboard import RefusedError
    from pdebench_fm.leaderboard import add as add_records
    from pdebench_fm.leaderboard.plans import against_plans

    try:
        report = add_records(directory, runs, against_plans)
    except RefusedError as error:
        for line in error.refused[1:]:  # the first is in the error itself
            click.echo(line, err=True)
        raise
    for line in (*report.replaced, *report.skipped):
        click.echo(line, err=True)
    click.echo(f"{report.added} added, {len(report.replaced)} replaced, {len(report.skipped)} already there")


@leaderboard.command()
@_directory
def build(directory: Path) -> None:
    """Write README.md and leaderboard.csv from the records."""
    from pdebench_fm.leaderboard import build as build_files

    for path in build_files(directory, planned_cells):
        click.echo(path)


@leaderboard.command()
@_directory
@click.pass_context
def check(context: click.Context, directory: Path) -> None:
    """Check every record again, and that README.md and leaderboard.csv are what they give."""
    from pdebench_fm.leaderboard import check as check_files
    from pdebench_fm.leaderboard.plans import against_plans

    wrong = check_files(directory, planned_cells, against_plans)
    for line in wrong:
        click.echo(line)
    if wrong:
        context.exit(1)
    click.echo(f"{directory}: in order")


def planned_cells(suite: str, version: int, profile: str) -> Collection[Cell] | None:
    """Return every cell that a registered suite plans; None where this version of it is not at hand."""
    from pdebench_fm.plan import expected_rows
    from pdebench_fm.plugins import registry
    from pdebench_fm.records import Cell
    from pdebench_fm.suite import load_suite

    try:
        loaded = load_suite(registry().get("suites", suite).path, registry())
        if loaded.version != version:
            return None
        return {Cell(*row) for row in expected_rows(loaded, profile, registry())}
    except PdefmError:  # not registered here, or no longer valid: complete then means what the records themselves say
        return None
