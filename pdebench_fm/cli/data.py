"""``pdefm data``: write examples to HDF5 files, and inspect such files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdebench_fm.cli.paths import FilePath
from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces.sampler import SPLITS, Split
from pdebench_fm.registry.calling import call_plugin

if TYPE_CHECKING:
    from pdebench_fm.data.hdf5 import FileSummary
    from pdebench_fm.data.open import OpenSet
    from pdebench_fm.problem import Fields


@click.group()
def data() -> None:
    """Export examples to HDF5, and inspect such files."""


@data.command()
@click.argument("distribution")
@click.option("--examples", type=click.IntRange(1, 2**50), required=True, help="How many examples.")
@click.option("--split", type=click.Choice(SPLITS), required=True, help="Which part of the data set.")
@click.option("--grid", type=click.IntRange(2, 8192), default=128, show_default=True, help="Points along each side.")
@click.option("--output", type=FilePath(dir_okay=False), required=True, help="HDF5 file to write.")
@click.option("--batch", type=click.IntRange(1, 65536), default=64, show_default=True, help="Examples made at a time.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    distribution: str,
    examples: int,
    split: Split,
    grid: int,
    output: Path,
    batch: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write examples of DISTRIBUTION, given as SUITE:NAME, to an HDF5 file.

    Example: pdefm data export "ood_sys1:SYS-1(1,5)" --examples 1024 --split train --output train.h5
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track

    from pdebench_fm._version import __version__
    from pdebench_fm.cli.context import current_registry
    from pdebench_fm.data.hdf5 import export as write
    from pdebench_fm.data.hdf5 import inspect
    from pdebench_fm.data.open import open_set
    from pdebench_fm.plan.sets import specify
    from pdebench_fm.registry.loading import to_standard_error
    from pdebench_fm.suite.reading import find_distribution

    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists; give --overwrite to replace it")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: its folder does not exist")
    registry = current_registry()
    suite, name = find_distribution(distribution, registry)
    if suite.distributions[name].files is not None:
        raise UsageError("the distribution is read from files; there is nothing to export")
    with to_standard_error():
        spec = specify(suite.distributions[name], registry, split, examples, grid, suite.data_seed)
        made = open_set(spec, registry, "cpu")
    metadata = {
        "distribution": name,
        "suite": suite.name,
        "suite_version": suite.version,
        **spec.description,
        "versions": {"pdebench_fm": __version__},
    }
    batches = track(
        _batches(made, batch),
        escape(str(output)),
        total=math.ceil(examples / batch),
        console=Console(stderr=True),
        transient=True,
    )
    with to_standard_error():
        write(output, made.examples.problem, batches, examples, metadata)
    if as_json:
        click.echo(json.dumps(_as_json(inspect(output)), indent=1))
    else:
        click.echo(f"{output}: {examples} examples of {name}, split {split}, {grid} × {grid}")


@data.command("inspect")
@click.argument("file", type=FilePath(dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect_file(file: Path, as_json: bool) -> None:
    """Show what an HDF5 FILE holds: shapes, channels, origin, value ranges, and whether it is complete."""
    from pdebench_fm._util.text import printable
    from pdebench_fm.data.hdf5 import inspect

    summary = inspect(file)
    if as_json:
        click.echo(json.dumps(_as_json(summary), indent=1))
        return
    lines = {
        "file": f"{summary.path} ({summary.size_bytes:,} bytes)",
        "complete": "yes" if summary.complete else "no",
        "examples": f"{summary.examples}, {summary.grid} × {summary.grid}, {summary.dtype}",
        "inputs": ", ".join(summary.inputs),
        "outputs": ", ".join(summary.outputs),
        "constants": ", ".join(summary.constants) or "none named",
        "problem": _problem(summary),
    }
    for key, value in summary.metadata.items():
        if key != "problem":  # a key of ours in the file's own metadata must not replace what was measured
            lines[f"pdefm: {key}" if key in lines else key] = json.dumps(value, ensure_ascii=False)
    for channel, (low, high) in summary.ranges.items():
        lines[f"range of {channel}"] = f"{low:.6g} … {high:.6g} ({summary.sampled} examples read)"
    width = max(map(len, lines))
    for key, value in lines.items():
        click.echo(printable(f"{key:<{width}}  {value}", 2000))


def _problem(summary: FileSummary) -> str:
    """Return what the file states beside its channels, or what is assumed because it states nothing."""
    from pdebench_fm.problem import Grid, Problem

    try:
        problem = Problem.parse(summary.metadata["problem"])
    except KeyError:
        return f"not stated, so {Grid(summary.grid)}, not homogeneous"
    except UsageError as error:
        return f"wrong: {error}"
    return f"{problem.grid}, {'' if problem.homogeneous else 'not '}homogeneous"


def _batches(made: OpenSet, size: int) -> Iterator[tuple[Fields, Fields]]:
    """Yield all examples in order, ``size`` at a time; an error names their sampler, and not the file."""
    batches = made.examples.batches(size)
    while (batch := call_plugin(made.name, partial(next, batches, None))) is not None:
        yield batch


def _as_json(summary: FileSummary) -> dict[str, Any]:
    """Return what was found; a number that is not finite is None, because JSON has none."""
    from dataclasses import asdict

    ranges = {
        channel: [end if math.isfinite(end) else None for end in ends] for channel, ends in summary.ranges.items()
    }
    return {**asdict(summary), "path": str(summary.path), "ranges": ranges}
