"""``--debug``, ``-v``, ``--log-file`` and ``--no-plugin``, which every command takes."""

from __future__ import annotations

import os
from typing import Any

import click

from pdebench_fm._util import logs
from pdebench_fm._util.environment import DEBUG, LOG_FILE, PLUGINS, VERBOSE
from pdebench_fm.errors import UsageError


def add_log_options(command: click.Command) -> None:
    """Give a command, and the commands of a group, the options of logging."""
    if not any(parameter.name == "debug" for parameter in command.params):
        command.params += _options()
    for member in getattr(command, "commands", {}).values():
        add_log_options(member)


def _options() -> list[click.Parameter]:
    def sets(variable: str) -> dict[str, Any]:
        def callback(context: click.Context, parameter: click.Parameter, value: Any) -> None:
            if value == "":
                raise UsageError(f"{parameter.opts[0]} must not be empty")
            if value:
                os.environ[variable] = "1" if value is True else os.path.abspath(value)
                logs.set_up()

        return {"callback": callback, "expose_value": False, "is_eager": True}

    return [
        click.Option(["--debug"], is_flag=True, help="Show the traceback of any error.", **sets(DEBUG)),
        click.Option(["-v", "--verbose"], is_flag=True, help="Log to standard error.", **sets(VERBOSE)),
        click.Option(["--log-file"], metavar="FILE", help="Log to a file, with tracebacks.", **sets(LOG_FILE)),
        click.Option(
            ["--no-plugin"],
            metavar="NAME",
            multiple=True,
            help="Do not load this plugin; may be repeated.",
            callback=_leave_out,
            expose_value=False,
            is_eager=True,
        ),
    ]


def _leave_out(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        os.environ[PLUGINS] = ",".join([os.environ.get(PLUGINS, ""), *(f"-{name}" for name in names)])
