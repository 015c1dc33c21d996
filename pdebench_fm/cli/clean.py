"""``pdefm clean``: what can be deleted from a folder of results, and how much that frees."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import click

from pdebench_fm._util.text import megabytes
from pdebench_fm.errors import UsageError


@click.command()
@click.argument("output", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"))
@click.option("--yes", is_flag=True, help="Delete; without it nothing is touched.")
def clean(output: Path, yes: bool) -> int:
    """List what no later run needs in OUTPUT (by default runs/); with --yes delete it.

    Results, records and the weights that points chose are always kept.
    """
    from pdebench_fm.run.status import deletable

    if not output.is_dir():
        raise UsageError(f"{output}: there is no such folder of results")
    found = list(deletable(output))
    sizes: Counter[str] = Counter()
    for item in found:
        sizes[item.what] += item.size
        if yes and item.path.is_dir():
            shutil.rmtree(item.path, ignore_errors=True)
        elif yes:
            item.path.unlink(missing_ok=True)
    for what, size in sizes.items():
        click.echo(f"{megabytes(size):>10}  {what}")
    total = megabytes(sum(sizes.values()))
    click.echo(f"{total:>10}  {'deleted' if yes else 'can be deleted: pdefm clean --yes'}")
    return 0
