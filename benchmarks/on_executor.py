"""Run a command as a job of an executor: where a run would do its jobs, with the settings that a run would have.

\b
    python benchmarks/on_executor.py --executor slurm --executor-set partition=gpu -- python benchmarks/gpu.py
    python benchmarks/on_executor.py --executor slurm --executor-set partition=gpu -- python -m pytest -m gpu tests

Prints what the command prints once it has ended, and ends with its exit code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from pdebench_fm.api import make_executor
from pdebench_fm.cli.run import parse_settings
from pdebench_fm.errors import PdefmError
from pdebench_fm.registry import registry


@click.command(help=__doc__, context_settings={"allow_interspersed_args": False})
@click.option("--executor", default="local", metavar="NAME", help="Where: a registered executor.")
@click.option("--executor-set", "settings", multiple=True, metavar="KEY=VALUE", help="Set an argument of it.")
@click.option("--device", default="cuda", show_default=True, help="Torch device that the command needs.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), help="Folder of the executor's files.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(executor: str, settings: tuple[str, ...], device: str, output: Path, command: tuple[str, ...]) -> None:
    """Submit the command and wait for it."""
    try:
        arguments = parse_settings(settings, "--executor-set")
        with make_executor(registry(), executor, arguments, 1, device, output.absolute()) as made:
            done = made.submit(run, command, os.getcwd()).result()
    except (PdefmError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(done.stdout, nl=False)
    sys.exit(done.returncode)


def run(command: tuple[str, ...], folder: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, and keep what it prints."""
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


if __name__ == "__main__":
    main()
