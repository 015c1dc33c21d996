"""``pdefm figures``: error against the number of downstream examples, drawn from records."""

from __future__ import annotations

from pathlib import Path

import click

from pdebench_fm.errors import RecordError


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("figures"),
    show_default=True,
    help="Folder for the figures.",
)
def figures(runs: tuple[Path, ...], output: Path) -> None:
    """Draw one figure per suite and profile from RUNS, as PNG and PDF.

    RUNS are records.jsonl files, or folders that are searched for them. Several models are drawn side by side.
    """
    from pdebench_fm.figures import draw
    from pdebench_fm.records import collect

    written = draw([record for _, record in collect(runs)], output)
    if not written:
        raise RecordError("nothing to draw: no record has a score")
    for path in written:
        click.echo(path)
