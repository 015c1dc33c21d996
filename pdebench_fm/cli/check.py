"""``pdefm check``: does somebody's model, distribution, metric or protocol keep the interface? Seconds, and no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from pdebench_fm._util.text import printable, quoted, reason_of
from pdebench_fm.errors import PLUGIN_ERRORS

_as_json = click.option(
    "--json", "as_json", is_flag=True, help='Print JSON: of each claim null, what failed, or {"skipped": why}.'
)


@click.group()
def check() -> None:
    """Check that a part keeps the interface; exit code 1 where it does not."""


@check.command("model")
@click.argument("name")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override an argument of the model.")
@click.option("--distribution", metavar="SUITE:NAME", help="Check it on the channels of this distribution.")
@_as_json
def check_model(name: str, settings: tuple[str, ...], distribution: str | None, as_json: bool) -> int:
    """Run the conformance checks on the registered model NAME.

    It is given smooth random fields: on channels of Poisson's equation, and some checks again on two fields in and two
    out. A model that takes other channels names a distribution that has them.
    """
    from pdebench_fm.cli.run import parse_settings
    from pdebench_fm.testing.claims import claims
    from pdebench_fm.testing.models import MODEL_CHECKS, model_subject

    subject = model_subject(name, parse_settings(settings), problem=distribution)
    return _report(claims(MODEL_CHECKS, subject), as_json)


@check.command("distribution")
@click.argument("reference", metavar="SUITE:NAME")
@_as_json
def check_distribution(reference: str, as_json: bool) -> int:
    """Run the conformance checks on the sampler, or the files, and the PDE of the distribution SUITE:NAME."""
    from pdebench_fm.testing import checks_of_distribution

    return _report(checks_of_distribution(reference), as_json)


@check.command("metric")
@click.argument("name")
@_as_json
def check_metric(name: str, as_json: bool) -> int:
    """Run the conformance checks on the registered metric NAME."""
    from pdebench_fm.testing import checks_of_metric

    return _report(checks_of_metric(name), as_json)


@check.command("protocol")
@click.argument("name")
@_as_json
def check_protocol(name: str, as_json: bool) -> int:
    """Run the conformance checks on the registered protocol NAME."""
    from pdebench_fm.testing import checks_of_protocol

    return _report(checks_of_protocol(name), as_json)


def _report(claims: Iterator[tuple[str, Callable[[], None]]], as_json: bool) -> int:
    """Run the checks one after the other and print what came of each; 1 where one failed."""
    from pdebench_fm.testing import Skipped

    found: dict[str, Any] = {}
    failed = False
    for claim, check_claim in claims:
        said = "ok"
        found[claim] = None
        try:
            check_claim()
        except Skipped as skipped:
            found[claim] = {"skipped": str(skipped)}
            said = f"skipped: {skipped}"
        except PLUGIN_ERRORS as error:  # what somebody else wrote may raise anything
            failed = True
            found[claim] = quoted(reason_of(error))
            said = f"failed: {found[claim]}"
        if not as_json:
            click.echo(printable(f"{claim.replace('_', ' ')}: {said}", 1000))
    if as_json:
        click.echo(json.dumps(found, indent=1))
    return 1 if failed else 0
