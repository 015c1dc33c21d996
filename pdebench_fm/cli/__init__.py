"""The command ``pdefm``. Each command lives in a file of its own and is imported only when it is called."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pdebench_fm._util.logs import is_debug, set_up, show_traceback
from pdebench_fm._util.text import named
from pdebench_fm._version import __version__
from pdebench_fm.cli.logs import add_log_options
from pdebench_fm.errors import PdefmError, Terminated, UsageError, suggestion
from pdebench_fm.run.distributed import leave

if TYPE_CHECKING:
    from pdebench_fm.registry import Registry

INTERRUPTED, TERMINATED = 130, 143
_COMPLETING = "_PDEFM_COMPLETE"
"""Set by the shell's completion (click)."""

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("run:run", "Score a model on a suite."),
    "status": ("status:status", "Show what runs, what is done, and what failed."),
    "clean": ("clean:clean", "List what can be deleted from a folder of results."),
    "new": ("new:new", "Write a package for a model, system, metric or protocol of yours."),
    "list": ("catalogue:list_entries", "List what is registered."),
    "show": ("catalogue:show", "Show one registered entry."),
    "plugins": ("catalogue:plugins", "Show every plugin, and why any of them failed."),
    "validate": ("validate:validate", "Check a suite file."),
    "check": ("check:check", "Check that a model, metric, protocol or distribution of yours keeps the interface."),
    "data": ("data:data", "Export examples to HDF5, and look into such files."),
    "compare": ("results:compare", "Print the records of several runs side by side."),
    "leaderboard": ("leaderboard:leaderboard", "Collect records, build the leaderboard, check it."),
    "figures": ("figures:figures", "Draw errors against examples and parameters, data savings, seeds, test cases."),
}


class _LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"pdebench_fm.cli.{module}"), attribute)
        add_log_options(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in _COMMANDS:
            raise UsageError(f"unknown command {name!r}{suggestion(name, _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pdefm")
def cli() -> None:
    """Is a PDE foundation model worth its pre-training?

    A model is pre-trained on some PDEs, brought to others with few examples, and compared with the same model trained
    from scratch there. Results go to standard output, progress and logs to standard error.

    \b
      pdefm list suites                           what can be run
      pdefm run smoke --model NAME --dry-run      what that would cost
      pdefm run smoke --model NAME                a table, and records under runs/

    Exit codes: 0 done, 1 failure, 2 bad usage or invalid suite, 3 some points failed or diverged, 130 Ctrl-C,
    143 SIGTERM.
    """


add_log_options(cli)


def main(arguments: list[str] | None = None, registry: Registry | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failure, 2 bad usage, 3 some points failed, 130 Ctrl-C, 143 SIGTERM."""
    gc.set_threshold(50_000)  # of very many records, whose collections free nothing
    Terminated.arrived = False
    signal.signal(signal.SIGTERM, _terminate)
    if arguments is None:
        _make_writable()
        with suppress(OSError):  # standard error may be no file
            faulthandler.enable()  # a crash in C shows where: which plugin was imported, say
    if _COMPLETING in os.environ:
        _complete()
    try:
        set_up()
        code: Any = cli.main(arguments, prog_name="pdefm", standalone_mode=False, obj=registry)
        sys.stdout.flush()  # here, so that a closed pipe or a full disk is reported in one line
    except BaseException as error:
        if not isinstance(error, (click.ClickException, click.Abort, KeyboardInterrupt, Terminated)):
            show_traceback(error)
        code = _report(error)
    leave(code if isinstance(code, int) else 0)


def _report(error: BaseException) -> int:
    """Print one line on how the command failed, and return its exit code."""
    match error:
        case PdefmError():
            _complain(str(error), hint=error.__cause__ is not None)
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)  # a help text is no line
            return error.exit_code
        case click.ClickException():
            context = error.ctx if isinstance(error, click.UsageError) else None
            where = f" (see {context.command_path} --help)" if context else ""
            _complain(error.format_message().rstrip(".") + where)
            return error.exit_code
        case click.Abort(__cause__=EOFError() as end):  # click takes the end of any file for the end of a dialogue
            _complain(named(end), hint=True)
        case click.Abort() | KeyboardInterrupt():
            # CPython remembers a Ctrl-C that arrived inside an ``eval`` (imports of torch are full of them) even after
            # it was caught, and then ends the process by the signal; the next ``eval`` makes it forget.
            eval("None")
            _complain("interrupted")
            return INTERRUPTED
        case Terminated():
            _complain("terminated")
            return TERMINATED
        case SystemExit(code=1):  # click's and rich's own: the reader has gone
            pass
        case SystemExit():
            _complain(f"a plugin has ended the program: sys.exit({error.code!r})", hint=True)
            return error.code if isinstance(error.code, int) and error.code else 1
        case MemoryError():
            _complain(f"out of memory{f': {error}' if str(error) else ''}")
        case BrokenPipeError():  # the reader has what it wanted, as with head
            _forget_output()
        case OSError():  # a full disk, a folder that may not be written
            where = f"{error.filename}: " if error.filename else ""
            _complain(f"{where}{error.strerror or error}")
            _forget_output()
        case _:
            _complain(named(error), hint=True)
    return 1


def _complete() -> NoReturn:
    """Print completions for the shell, and none of what plugins print meanwhile."""
    with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        cli.main(prog_name="pdefm")
    raise SystemExit


def _make_writable() -> None:
    """Replace closed standard streams; let the others escape what their encoding lacks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))  # noqa: SIM115
        elif stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str, hint: bool = False) -> None:
    """Print one line on standard error, without control characters that a name might carry."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    more = " (--debug shows the traceback)" if hint and not is_debug() else ""
    click.echo(f"pdefm: {line}{more}", err=True)


def _forget_output() -> None:
    """Discard buffered output, so that the interpreter does not complain when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is no real file
        return


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    Terminated.arrived = True
    raise Terminated
