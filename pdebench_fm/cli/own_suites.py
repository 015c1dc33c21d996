"""``--suite FILE``: suites that no plugin registers, for commands that read records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from pdebench_fm.suite.schema import Suite

_Command = TypeVar("_Command", bound=Callable[..., object])


def suites_option(what_for: str) -> Callable[[_Command], _Command]:
    """Return the option, which the command gets as ``suites``."""
    return click.option(
        "--suite",
        "suites",
        multiple=True,
        metavar="FILE",
        type=FilePath(exists=True, dir_okay=False),
        help=f"A suite file of your own: {what_for}. Repeatable.",
    )


def load_suites(files: Sequence[Path]) -> list[Suite]:
    """Read suite files."""
    if not files:
        return []
    from pdebench_fm.suite.reading import load_suite

    found: dict[tuple[str, int], Suite] = {}
    for file in files:
        suite = load_suite(file)
        other = found.setdefault((suite.name, suite.version), suite)
        if other is not suite:
            raise UsageError(f"{other.source} and {file} are both suite {suite.name!r} v{suite.version}")
    return list(found.values())
