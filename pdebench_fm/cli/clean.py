"""``pdefm clean``: what can be deleted from a folder of results, and how much that frees."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import click

from pdebench_fm._util.text import megabytes
from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError
from pdebench_fm.run.cleaning import deletable


@click.command()
@click.argument("output", type=FilePath(file_okay=False), default=Path("runs"))
@click.option("--yes", is_flag=True, help="Delete; without it nothing is touched.")
@click.option(
    "--weights", is_flag=True, help="Also what later runs would use: chosen weights, and state of interrupted fits."
)
def clean(output: Path, yes: bool, weights: bool) -> int:
    """List what can be deleted in OUTPUT (by default runs/); with --yes delete it.

    Results and records are always kept. Without --weights, so is everything that a later run would use.
    """
    if not output.is_dir():
        raise UsageError(f"{output}: there is no such folder of results")
    sizes: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for item in list(deletable(output)):
        if item.useful and not weights:
            kept[item.what] += item.size
            continue
        sizes[item.what] += item.size
        if yes and item.path.is_dir():
            shutil.rmtree(item.path, ignore_errors=True)
        elif yes:
            item.path.unlink(missing_ok=True)
    for what, size in sizes.items():
        click.echo(f"{megabytes(size):>10}  {what}")
    what_now = ("deleted" if yes else "can be deleted: add --yes") if sizes else "nothing to delete"
    click.echo(f"{megabytes(sizes.total()):>10}  {what_now}")
    for what, size in kept.items():
        click.echo(f"kept without --weights: {megabytes(size)}, {what}", err=True)
    return 0
