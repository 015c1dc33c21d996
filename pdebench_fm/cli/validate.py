"""``pdefm validate``: check a suite and describe it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pdebench_fm._util.text import counted
from pdebench_fm.cli import completion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pdebench_fm.suite.scale import FineTuning, Profile, Training


@click.command()
@click.argument("suite", shell_complete=completion.suites)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(suite: str, as_json: bool) -> None:
    """Check SUITE, a YAML file or the name of a registered suite, and its data files."""
    from pdebench_fm._util.text import printable
    from pdebench_fm.cli.context import current_registry
    from pdebench_fm.plan.sets import check_files, check_sets
    from pdebench_fm.suite.reading import load_suite

    registry = current_registry()
    loaded = load_suite(suite, registry)
    for name in loaded.profiles:
        check_files(loaded, registry, name)
        check_sets(loaded, name, registry)
    if as_json:
        about = {"valid": True, "source": str(loaded.source), "suite": loaded.model_dump(mode="json")}
        click.echo(json.dumps(about, indent=1))
        return
    click.echo(f"{printable(str(loaded.source), 1000)}: valid")
    click.echo(
        f"{loaded.name} version {loaded.version}: {counted(len(loaded.distributions), 'distribution')}, "
        f"{counted(len(loaded.tasks), 'task')}, protocols {', '.join(map(str, loaded.protocols))}"
    )
    for name, profile in loaded.profiles.items():
        default = " (default)" if name == loaded.default_profile else ""
        click.echo(f"profile {name}{default}: {_describe(profile)}")


def _describe(profile: Profile) -> str:
    counts = profile.examples
    sizes = ", ".join(map(str, counts.downstream))
    scored = f" (scored on {', '.join(map(str, profile.test_grids))} too)" if profile.test_grids else ""
    same = profile.fine_tuning.learning_rates == profile.scratch_rates
    return (
        f"grid {profile.grid}{scored}, {counts.pretraining} pre-training, {counts.validation} validation and "
        f"{counts.test} test examples, N = {sizes}, {counted(profile.seeds, 'seed')}; "
        f"pre-training {_budget(profile.training)}, rates {_rates(profile.training.learning_rates)}; "
        f"downstream {_budget(profile.fine_tuning)}, rates {_rates(profile.fine_tuning.learning_rates)}"
        + ("" if same else f", from scratch {_rates(profile.scratch_rates)}")
    )


def _budget(budget: Training | FineTuning) -> str:
    return f"{budget.epochs} epochs" if budget.epochs is not None else f"{budget.steps} steps"


def _rates(rates: Iterable[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)
