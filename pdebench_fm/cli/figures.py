"""``pdefm figures``: every figure that records allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdebench_fm.cli.own_suites import load_suites, suites_option
from pdebench_fm.cli.paths import FilePath
from pdebench_fm.cli.results import metric_option, shown_by, warn_of_differences
from pdebench_fm.errors import RunError
from pdebench_fm.figures import KINDS, Realised, draw
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.file import collect, tell_apart
from pdebench_fm.records.record import Record

if TYPE_CHECKING:
    from pdebench_fm.scoring.shift import Shifts
    from pdebench_fm.suite.schema import Suite

_CASES = "cases"


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FilePath(exists=True))
@click.option(
    "--output",
    type=FilePath(file_okay=False),
    default=Path("figures"),
    show_default=True,
    help="Folder for the figures.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([*KINDS, _CASES]),
    help="Draw only this kind. Repeatable. By default, every kind that the records allow.",
)
@metric_option
@suites_option("the distributions above the panels are drawn from it")
def figures(
    runs: tuple[Path, ...], output: Path, kinds: tuple[str, ...], metric: str, suites: tuple[Path, ...]
) -> None:
    """Draw figures from RUNS, as PNG and PDF, for each suite and profile.

    RUNS are records.jsonl files, or folders that are searched for them, such as leaderboard/records. Several models are
    drawn side by side. Above each panel are the distributions of the physics parameter in pre-training and downstream,
    if the suite is installed or given; otherwise four boxes show the nominal shift.

    \b
    errors      error against N for each task
    sizes       error against N for each size of a family of models
    parameters  error against parameters of a family at fixed N
    mixtures    error against N for each pre-training of the same task
    savings     scratch examples that match N examples after pre-training
    seeds       every seed, with median and quartiles
    cases       source, truth, prediction and error of the best, median and worst test case; needs the run's jobs
    """
    from pdebench_fm.figures.cases import NEEDS, draw_cases  # imports torch

    realised = known_distributions(load_suites(suites))
    found = tell_apart(collect(runs))
    warn_of_differences(found)
    from_records = [kind for kind in kinds if kind != _CASES]
    written: dict[str, list[Path]] = {}
    if from_records or not kinds:
        written |= draw(shown_by(found, metric), output, from_records or None, realised, metric)
    if _CASES in kinds or (not kinds and metric == SCORE):
        written[_CASES] = draw_cases(found, output)
    paths = [path for of_kind in written.values() for path in of_kind]
    lacking = [name for name, of_kind in written.items() if not of_kind]
    if not paths:
        needed = {**{name: kind.needs for name, kind in KINDS.items()}, _CASES: NEEDS}
        needs = "; ".join(f"{name} needs {needed[name]}" for name in (kinds or lacking[:1]))
        raise RunError(f"nothing to draw: {needs}")
    for path in paths:
        click.echo(path)
    made = ", ".join(f"{len(of_kind) // 2} {name}" for name, of_kind in written.items() if of_kind)
    without = f"; the records do not allow {', '.join(lacking)}" if lacking else ""
    click.echo(f"figures made (PNG and PDF): {made}{without}", err=True)


def known_distributions(own: Sequence[Suite]) -> Realised:
    """Return a function that draws distributions from the samplers of the suite that records name.

    Suites in ``own`` come before registered ones of the same name and version.
    """
    from pdebench_fm.plan.sets import comparable_pairs
    from pdebench_fm.registry import registry
    from pdebench_fm.scoring.shift import UNKNOWN, RealisedShift
    from pdebench_fm.suite.reading import find_suite

    found = registry()
    measure = RealisedShift(found)

    def realised(records: Sequence[Record]) -> Shifts:
        first = records[0]
        suite = find_suite(first.suite, first.suite_version, found, own)
        if suite is None or first.profile not in suite.profiles:
            return UNKNOWN
        return measure.redrawn(records, comparable_pairs(suite, first.profile, found))

    return realised
