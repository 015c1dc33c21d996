"""What commands take from click's context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pdebench_fm.registry import Registry


def current_registry() -> Registry:
    """Return the registry in click's context if there is one, otherwise everything installed.

    ``pdebench_fm.cli.main(arguments, registry)`` and ``CliRunner().invoke(command, arguments, obj=registry)`` put one
    there.
    """
    from pdebench_fm.registry import Registry, registry

    return click.get_current_context().find_object(Registry) or registry()
