"""Results on standard output, and ``pdefm compare``: records of several runs side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdebench_fm._util.text import terminal_width
from pdebench_fm.cli.completion import names_of
from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces.metric import SCORE

if TYPE_CHECKING:
    from pdebench_fm.records.record import Cell, Record

Command = Callable[..., None]


def metric_option(command: Command) -> Command:
    """Let a command show another metric than the main score."""
    return click.option(
        "--metric",
        default=SCORE,
        show_default=True,
        shell_complete=names_of("metrics"),
        help="Show this metric of the records. Trials stay those that the main score chose.",
    )(command)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FilePath(exists=True))
@metric_option
@click.option("--json", "as_json", is_flag=True, help="Print one object for each record, with place and scores.")
def compare(runs: tuple[Path, ...], metric: str, as_json: bool) -> None:
    """Print the records of RUNS in one table for each suite and profile.

    RUNS are records.jsonl files, or folders that are searched for them, such as runs/smoke or leaderboard/records. Only
    records are read. A model that several of them have scored is named with its folder. `pdefm figures RUNS` draws the
    same.
    """
    from pdebench_fm.records.file import collect, tell_apart

    found = collect(runs)
    if as_json:
        from pdebench_fm.records.frame import load_records

        if metric != SCORE:
            raise UsageError("--json prints every metric: leave out --metric")
        click.echo(json.dumps(json.loads(load_records(runs).to_json(orient="records")), indent=1))
        return
    apart = tell_apart(found)
    warn_of_differences(apart)
    print_summaries(shown_by(apart, metric), metric=metric)


def shown_by(found: Sequence[tuple[str, Record]], metric: str) -> list[Record]:
    """Return records that show a metric, if it is an error."""
    from pdebench_fm.records.metrics import with_scores_of
    from pdebench_fm.registry import registry
    from pdebench_fm.registry.calling import call_plugin

    records = [record for _, record in found]
    if metric == SCORE:
        return records
    installed = registry()
    if metric in installed.names("metrics"):
        made = call_plugin(f"metric {metric!r} cannot be made", installed.load("metrics", metric))
        if made.better == "higher":
            what = "higher is better, and tables and figures compare errors"
            raise UsageError(f"--metric {metric}: {what}; `pdefm compare --json` prints it")
    return with_scores_of(records, metric)


def print_summaries(records: Sequence[Record], planned: Collection[Cell] | None = None, metric: str = SCORE) -> None:
    """Print what a run ends with; see `pdebench_fm.tables.summary`."""
    from pdebench_fm.tables.summary import summaries

    width = terminal_width()
    click.echo("\n\n".join(summary.text(width) for summary in summaries(records, planned, metric)))


def warn_of_differences(found: Sequence[tuple[str, Record]]) -> None:
    """Warn if records that do not compare are shown together, e.g. after an edit of the suite."""
    from pdebench_fm.leaderboard.audit import disagreements

    for where, what in islice(disagreements(found), 1):
        click.echo(f"shown together: {where}: {what}", err=True)
