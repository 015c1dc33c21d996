"""``pdefm check``: does somebody's model keep the interface? Seconds, and no suite."""

from __future__ import annotations

import json

import click

from pdebench_fm.errors import PdefmError


@click.group()
def check() -> None:
    """Check that a part keeps the interface."""


@check.command("model")
@click.argument("name")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override an argument of the model.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_model(name: str, settings: tuple[str, ...], as_json: bool) -> int:
    """Run the conformance checks on the registered model NAME."""
    from pdebench_fm.cli.run import parse_settings
    from pdebench_fm.testing import checks_of_model

    failures = {}
    claims = list(checks_of_model(name, None, **parse_settings(settings)))
    for claim, check_claim in claims:
        try:
            check_claim()
        except Exception as error:  # a model of somebody else may raise anything
            text = " ".join(str(error).split())
            failures[claim] = text if isinstance(error, PdefmError) else f"{type(error).__name__}: {text}"
        if not as_json:
            said = f"failed: {failures[claim]}" if claim in failures else "ok"
            click.echo(f"{claim.replace('_', ' ')}: {said}")
    if as_json:
        click.echo(json.dumps({claim: failures.get(claim) for claim, _ in claims}, indent=1))
    return 1 if failures else 0
