"""``pdefm check``: does a model, distribution, metric or protocol keep the interface? Seconds, and no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import click

from pdebench_fm._util.logs import is_debug, show_traceback
from pdebench_fm._util.text import printable, quoted, show
from pdebench_fm.cli import completion
from pdebench_fm.cli.context import current_registry
from pdebench_fm.errors import PLUGIN_ERRORS, PdefmError, UsageError

_as_json = click.option(
    "--json", "as_json", is_flag=True, help='Print JSON: of each claim null, what failed, or {"skipped": why}.'
)


_expect = click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="CLAIM=REASON",
    help="A check that is known to fail, and why; may be repeated. It is an error if it passes.",
)


@click.group()
def check() -> None:
    """Check that a part keeps the interface; exit code 1 if it does not."""


@check.command("model")
@click.argument("name", shell_complete=completion.names_of("models"))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override an argument of the model.")
@click.option("--distribution", metavar="SUITE:NAME", help="Check it on the channels of this distribution.")
@_expect
@_as_json
def check_model(
    name: str, settings: tuple[str, ...], distribution: str | None, expected: tuple[str, ...], as_json: bool
) -> int:
    """Run the conformance checks on the registered model NAME.

    It is given smooth random fields: on channels of Poisson's equation, and some checks again on two fields in and two
    out. A model that takes other channels names a distribution that has them.
    """
    from pdebench_fm.cli.run import parse_settings
    from pdebench_fm.registry.loading import to_standard_error
    from pdebench_fm.testing.claims import claims
    from pdebench_fm.testing.model_subject import model_subject
    from pdebench_fm.testing.models import MODEL_CHECKS

    with to_standard_error():
        subject = model_subject(name, parse_settings(settings), current_registry(), distribution)
    return _report(claims(MODEL_CHECKS, subject), expected, as_json)


@check.command("distribution")
@click.argument("reference", metavar="SUITE:NAME")
@_expect
@_as_json
def check_distribution(reference: str, expected: tuple[str, ...], as_json: bool) -> int:
    """Run the conformance checks on the sampler, or the files, and the PDE of the distribution SUITE:NAME."""
    from pdebench_fm.testing import checks_of_distribution

    return _report(checks_of_distribution(reference), expected, as_json)


@check.command("metric")
@click.argument("name", shell_complete=completion.names_of("metrics"))
@_expect
@_as_json
def check_metric(name: str, expected: tuple[str, ...], as_json: bool) -> int:
    """Run the conformance checks on the registered metric NAME."""
    from pdebench_fm.testing import checks_of_metric

    return _report(checks_of_metric(name), expected, as_json)


@check.command("protocol")
@click.argument("name", shell_complete=completion.names_of("protocols"))
@click.option("--model", metavar="NAME", help="Adapt this model and not a small convolutional network.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override an argument of that model.")
@_expect
@_as_json
def check_protocol(
    name: str, model: str | None, settings: tuple[str, ...], expected: tuple[str, ...], as_json: bool
) -> int:
    """Run the conformance checks on the registered protocol NAME: a small model is wrapped, adapted and saved.

    A protocol for released models needs one: --model poseidon --set checkpoint=FOLDER.
    """
    from pdebench_fm.cli.run import parse_settings
    from pdebench_fm.registry.loading import to_standard_error
    from pdebench_fm.testing import checks_of_protocol

    if settings and model is None:
        raise UsageError("--set overrides an argument of a model: name it by --model")
    with to_standard_error():
        checks = checks_of_protocol(name, model=model, arguments=parse_settings(settings))
    return _report(checks, expected, as_json)


def _report(claims: Iterator[tuple[str, Callable[[], None]]], expected: tuple[str, ...], as_json: bool) -> int:
    """Run the checks one after the other and print what came of each; return 1 if one failed.

    A cause that several checks share is shown once, with the file and line of the plugin.
    """
    from pdebench_fm.registry.calling import located
    from pdebench_fm.registry.loading import to_standard_error
    from pdebench_fm.testing import Skipped
    from pdebench_fm.testing.claims import check_expected

    with to_standard_error():
        checks = dict(claims)
    reasons = dict(_split(text) for text in expected)
    check_expected(reasons, list(checks))
    found: dict[str, Any] = {}
    causes: set[str] = set()
    failed, again = False, 0
    for claim, check_claim in checks.items():
        said, found[claim] = "ok", None
        try:
            with to_standard_error():
                check_claim()
            if claim in reasons:
                failed, said = True, f"passed, but was expected to fail: {reasons[claim]}"
                found[claim] = said
        except Skipped as skipped:
            found[claim] = {"skipped": str(skipped)}
            said = f"skipped: {skipped}"
        except PLUGIN_ERRORS as error:
            cause = quoted(located(error))
            if claim in reasons:
                found[claim] = {"expected": reasons[claim]}
                said = f"failed as expected: {reasons[claim]}"
            else:
                failed, found[claim] = True, cause
                if cause in causes:
                    again += 1
                    continue
                causes.add(cause)
                show_traceback(error)
                hint = "" if is_debug() or isinstance(error, PdefmError) else " (--debug shows the traceback)"
                said = f"failed: {cause}{hint}"
        if not as_json:
            click.echo(printable(f"{claim.replace('_', ' ')}: {said}", 1000))
    if again and not as_json:
        click.echo(f"{again} more {'checks fail' if again > 1 else 'check fails'} for the same reason")
    if as_json:
        click.echo(json.dumps(found, indent=1))
    return 1 if failed else 0


def _split(text: str) -> tuple[str, str]:
    claim, separator, reason = text.partition("=")
    if not separator or not reason.strip():
        raise UsageError(f"--expect takes CLAIM=REASON, got {show(text)}")
    return claim.strip().replace(" ", "_"), reason.strip()
