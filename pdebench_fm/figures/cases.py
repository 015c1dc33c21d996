"""Fields of the best, the median and the worst test case: source, true solution, prediction, error.

A run keeps them in the folder of the job, see `pdebench_fm.scoring.probes.keep_samples`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from pdebench_fm._util.text import named
from pdebench_fm.errors import RunError
from pdebench_fm.figures.panels import fill
from pdebench_fm.figures.style import drawing, file_stem, save
from pdebench_fm.records.curves import FINE_TUNE
from pdebench_fm.records.file import file_of
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.probes import RANKS, SAMPLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "the jobs of the run beside its records, with the test cases that scoring keeps"
_CHANNELS = ("source", "solution")
"""Names of the fields in samples of older versions."""


def draw_cases(found: Iterable[tuple[str, Record]], folder: Path) -> list[Path]:
    """Draw one figure for each task and model: fine-tuning at the largest N, or else any arm.

    Args:
        found: ``file:line`` and record, as `pdebench_fm.records.file.collect` returns them.

    Returns:
        the files written, a PNG and a PDF for each figure; none for runs without their jobs.
    """
    written = []
    with drawing():
        for record, kept in choose_cases(found):
            try:
                with kept.open("rb") as file, np.load(file) as arrays:
                    figure = make_cases(record, dict(arrays))
            except (OSError, ValueError, EOFError, LookupError, BadZipFile) as error:
                raise RunError(f"{kept}: not a file of test cases; delete it: {named(error)}") from error
            parts = (record.suite, f"v{record.suite_version}", record.profile, "cases", record.task, record.model)
            written += save(figure, folder, file_stem(*parts), " · ".join(parts))
    return written


def choose_cases(found: Iterable[tuple[str, Record]]) -> list[tuple[Record, Path]]:
    """Choose the record of each task and model, and the file with its test cases."""
    chosen: dict[tuple[Any, ...], tuple[tuple[bool, int, int], Record, Path]] = {}
    for place, record in found:
        if record.kind != "point" or record.status != "ok":
            continue
        kept = _samples(file_of(place), record.job_id)
        key = (record.suite, record.suite_version, record.profile, record.task, record.model)
        rank = (record.protocol == FINE_TUNE, record.examples, -record.seed)
        if kept is not None and (key not in chosen or rank > chosen[key][0]):
            chosen[key] = (rank, record, kept)
    return [(record, kept) for _, (_, record, kept) in sorted(chosen.items(), key=lambda item: item[0])]


def make_cases(record: Record, arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw the three cases of one point, a row each.

    Args:
        arrays: what `pdebench_fm.scoring.probes.keep_samples` kept.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 4.6), layout="constrained")
    axes = figure.subplots(len(RANKS), 4)
    for row, rank in enumerate(RANKS):
        source, truth, prediction = (arrays[name][row] for name in ("source", "truth", "prediction"))
        span = float(np.abs(truth).max()) or 1.0
        error = prediction - truth
        widest = float(np.abs(error).max()) or 1.0
        _field(axes[row, 0], source, "viridis", (float(source.min()), float(source.max())))
        _field(axes[row, 1], truth, "RdBu_r", (-span, span))
        _field(axes[row, 2], prediction, "RdBu_r", (-span, span))  # the same colours as the truth
        _field(axes[row, 3], error, "PuOr_r", (-widest, widest))
        if beyond := float((np.abs(prediction) > span).mean()):
            axes[row, 2].set_xlabel(f"{beyond:.1%} of points are beyond these colours", fontsize=5.5)
        text = f"{rank}\nerror {float(arrays['errors'][row]):.3g}\ntest case {int(arrays['examples'][row])}"
        axes[row, 0].set_ylabel(text, fontsize=7)
    given, wanted = map(str, arrays.get("channels", _CHANNELS))
    for column, title in enumerate((given, wanted, "prediction", f"prediction − {wanted}")):
        axes[0, column].set_title(title, fontsize=8)
    what = f"{record.model} on {record.task}, {record.protocol}"
    if record.examples:
        what += f" with N = {record.examples}"
    headline = f"{record.suite} v{record.suite_version}, profile {record.profile}: {what}"
    figure.suptitle(fill(headline, figure.get_figwidth()), fontsize=8)
    return figure


def _field(axes: Axes, field: np.ndarray, colours: str, limits: tuple[float, float]) -> None:
    """Draw one field with y upwards, and its colour bar."""
    low, high = limits if limits[1] > limits[0] else (limits[0] - 1, limits[0] + 1)
    image = axes.imshow(field, origin="lower", cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, aspect=12)
    bar.ax.tick_params(labelsize=5, width=0.4, length=2)
    bar.outline.set_linewidth(0.4)


def _samples(records: Path, job_id: str) -> Path | None:
    """Return the file with the test cases of a point: in ``OUTPUT/jobs/<id>``, if it is there."""
    for output in records.absolute().parents[:3]:
        path = output / "jobs" / job_id / SAMPLES
        if path.is_file():
            return path
    return None
