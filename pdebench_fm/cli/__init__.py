"""The command ``pdefm``. Each command lives in a file of its own and is imported only when it is called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from pdebench_fm import __version__
from pdebench_fm._util.text import named
from pdebench_fm.cli.logs import show_traceback, take_log_options
from pdebench_fm.errors import PdefmError, Terminated, UsageError, suggestion

if TYPE_CHECKING:
    from pdebench_fm.registry import Registry

INTERRUPTED, TERMINATED = 130, 143

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("run:run", "Score a model on a suite."),
    "status": ("status:status", "Show what runs, what is done, and what failed."),
    "clean": ("clean:clean", "List what can be deleted from a folder of results."),
    "new": ("new:new", "Write a package for a model, system, metric or protocol of yours."),
    "list": ("catalogue:list_entries", "List what is registered."),
    "show": ("catalogue:show", "Show one registered entry."),
    "plugins": ("catalogue:plugins", "Show every plugin, and why it failed where it did."),
    "validate": ("validate:validate", "Check a suite file."),
    "check": ("check:check", "Check that a model, metric, protocol or distribution of yours keeps the interface."),
    "data": ("data:data", "Export examples to HDF5, and look into such files."),
    "leaderboard": ("leaderboard:leaderboard", "Collect records, build the leaderboard, check it."),
    "figures": ("figures:figures", "Draw errors against examples and parameters, data savings, seeds, test cases."),
}


class _LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"pdebench_fm.cli.{module}"), attribute)
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

    Every command takes --debug (or PDEFM_DEBUG=1), which shows tracebacks, -v, which logs what it does, and --log-file
    FILE.

    Exit codes: 0 done, 1 failure, 2 bad usage or invalid suite, 3 some points failed or diverged, 130 Ctrl-C,
    143 SIGTERM.
    """


def main(arguments: list[str] | None = None, registry: Registry | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failure, 2 bad usage, 3 some points failed, 130 Ctrl-C, 143 SIGTERM.

    Args:
        arguments: by default those of the process.
        registry: what commands know; by default everything installed. See `pdebench_fm.cli.context`.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if arguments is None:
        _make_writable()
    try:
        given = take_log_options(sys.argv[1:] if arguments is None else arguments)
        code: Any = cli.main(given, prog_name="pdefm", standalone_mode=False, obj=registry)
        sys.stdout.flush()  # here, where a reader that has gone or a full disk is still told in one line
    except PdefmError as error:
        show_traceback(error)
        _complain(str(error))
        code = error.exit_code
    except click.Abort as abort:
        if isinstance(abort.__cause__, EOFError):  # click takes the end of any file for the end of a dialogue
            _complain(named(abort.__cause__))
            code = 1
        else:
            code = _interrupted()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # a help text is no line
        code = error.exit_code
    except click.ClickException as error:
        where = f" (see {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        _complain(error.format_message().rstrip(".") + where)
        code = error.exit_code
    except Terminated:
        code = TERMINATED
        _complain("terminated")
    except SystemExit as request:
        if "_PDEFM_COMPLETE" in os.environ:  # click has printed its completions
            raise
        show_traceback(request)
        code = request.code if isinstance(request.code, int) and request.code else 1
        if request.code != 1:  # 1 is click's and rich's own, where the reader has gone
            _complain(f"a plugin has ended the program: sys.exit({request.code!r})")
    except KeyboardInterrupt:
        code = _interrupted()
    except MemoryError as error:
        _complain(f"out of memory{f': {error}' if str(error) else ''}")
        code = 1
    except BrokenPipeError:  # the reader has what it wanted, as with head
        _forget_output()
        code = 1
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        _forget_output()
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _make_writable() -> None:
    """Standard streams that were closed lead nowhere; others show what their encoding lacks by its number."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False))  # noqa: SIM115
        elif stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _complain(text: str) -> None:
    """One line on standard error, without control characters that a name might carry."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    click.echo(f"pdefm: {line}", err=True)


def _forget_output() -> None:
    """What is still buffered goes nowhere, so that the interpreter has nothing to complain about when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is no real file
        return


def _interrupted() -> int:
    """Say so, and make sure that the exit code is ours.

    CPython remembers a Ctrl-C that arrived inside an ``eval`` (imports of torch are full of them) even after it was
    caught, and then ends the process by the signal instead of the exit code; the next ``eval`` makes it forget.
    """
    eval("None")
    _complain("interrupted")
    return INTERRUPTED


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
