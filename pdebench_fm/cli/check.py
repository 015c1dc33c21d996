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


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(["model", "distribution", "metric", "protocol"]))
@click.argument("name", shell_complete=completion.entries)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override an argument of the model.")
@click.option(
    "--distribution",
    metavar="SUITE:NAME",
    help="Check a model on the channels of this distribution, or a metric on its examples.",
)
@click.option("--model", metavar="NAME", help="Let a protocol adapt this model, not a small convolutional network.")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="CLAIM=REASON",
    help="A check that is known to fail, and why; may be repeated. It is an error if it passes.",
)
@click.option(
    "--json", "as_json", is_flag=True, help='Print JSON: of each claim null, what failed, or {"skipped": why}.'
)
def check(
    kind: str,
    name: str,
    settings: tuple[str, ...],
    distribution: str | None,
    model: str | None,
    expected: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check that a part keeps the interface; exit code 1 if it does not. KIND is one of

    \b
      model         the registered model NAME, on smooth random fields
      protocol      the registered protocol NAME: a small model is wrapped, adapted and saved
      metric        the registered metric NAME
      distribution  the sampler, or the files, and the PDE of SUITE:NAME

    A model gets channels of Poisson's equation, and for some checks two fields in and two out. One that takes other
    channels names a distribution that has them. A protocol for released models needs one of them:
    --model poseidon --set checkpoint=FOLDER.
    """
    from pdebench_fm import testing
    from pdebench_fm.cli.run import parse_settings
    from pdebench_fm.registry.loading import to_standard_error
    from pdebench_fm.testing.claims import claims
    from pdebench_fm.testing.model_subject import model_subject
    from pdebench_fm.testing.models import MODEL_CHECKS

    if distribution is not None and kind not in ("model", "metric"):
        raise UsageError(f"--distribution gives examples for a model or a metric, and this is a {kind}")
    if model is not None and kind != "protocol":
        raise UsageError(f"--model is what a protocol adapts, and this is a {kind}")
    if settings and kind != "model" and model is None:
        raise UsageError("--set overrides an argument of a model: name it by --model")
    arguments = parse_settings(settings)
    with to_standard_error():
        match kind:
            case "model":
                checks = claims(MODEL_CHECKS, model_subject(name, arguments, current_registry(), distribution))
            case "protocol":
                checks = testing.checks_of_protocol(name, model=model, arguments=arguments)
            case "metric":
                checks = testing.checks_of_metric(name, distribution)
            case _:
                checks = testing.checks_of_distribution(name)
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
