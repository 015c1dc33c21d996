"""Shell completion of names: models, suites, profiles and other entries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from click import Context, Parameter
from click.shell_completion import CompletionItem

from pdebench_fm.registry import KINDS, Kind, registry
from pdebench_fm.registry.discovery import singular

Complete = Callable[[Context, Parameter, str], list[CompletionItem]]


def names_of(kind: Kind) -> Complete:
    """Return what completes the name of an entry of a kind."""

    def complete(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
        entries = registry().entries(kind)
        return [CompletionItem(entry.name, help=entry.summary) for entry in entries if entry.name.startswith(begun)]

    return complete


def suites(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Complete the name of a suite, or the path of a file."""
    return names_of("suites")(context, parameter, begun) or [CompletionItem(begun, type="file")]


def profiles(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Complete the profile of the suite that the command line names."""
    from pdebench_fm.suite.reading import load_suite

    # As long as an option lacks its value, click leaves arguments where they are.
    named = [context.params.get("suite"), *context.args]
    for name in filter(None, named):
        with suppress(Exception):  # no suite, or one that is being written
            return [CompletionItem(name) for name in load_suite(name).profiles if name.startswith(begun)]
    return []


def entries(context: Context, parameter: Parameter, begun: str) -> list[CompletionItem]:
    """Complete the name of an entry of the kind that the command line names."""
    given = context.params.get("kind")
    kind = next((kind for kind in KINDS if given in (kind, singular(kind))), None)
    return names_of(kind)(context, parameter, begun) if kind is not None else []
