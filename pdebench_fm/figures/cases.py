"""Fields of the best, the median and the worst test case: source, true solution, prediction, error.

They are no part of a record: a run keeps them beside the job of each scored point, see
`pdebench_fm.scoring.probes.keep_samples`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from pdebench_fm._util.text import named
from pdebench_fm.errors import RunError
from pdebench_fm.figures.around import add_headline
from pdebench_fm.figures.style import drawing, file_stem, save
from pdebench_fm.records.curves import FINE_TUNE
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.probes import RANKS, SAMPLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS = "the jobs of the run beside its records, with the test cases that scoring keeps"
_CHANNELS = ("source", "solution")
"""What the fields are called in samples that do not say it, as those of older versions."""


def draw_cases(found: Iterable[tuple[str, Record]], folder: Path) -> list[Path]:
    """Draw one figure for each task and model: its fine-tuning at the largest N, or what else it was scored on.

    Args:
        found: ``file:line`` and record, as `pdebench_fm.records.file.collect` returns them.
        folder: where the files go.

    Returns:
        the files written, a PNG and a PDF for each figure; none for runs whose jobs are not there.

    Raises:
        RunError: what a run has kept is damaged.
    """
    chosen: dict[tuple[Any, ...], tuple[tuple[bool, int, int], Record, Path]] = {}
    for place, record in found:
        if record.kind != "point" or record.status != "ok":
            continue
        kept = _samples(Path(place.rpartition(":")[0]), record.job_id)
        if kept is None:
            continue
        key = (record.suite, record.suite_version, record.profile, record.task, record.model)
        rank = (record.protocol == FINE_TUNE, record.examples, -record.seed)
        if key not in chosen or rank > chosen[key][0]:
            chosen[key] = (rank, record, kept)
    written = []
    with drawing():
        for (suite, version, profile, task, model), (_, record, kept) in sorted(chosen.items(), key=lambda e: e[0]):
            try:
                with kept.open("rb") as file, np.load(file) as arrays:
                    figure = make_cases(record, dict(arrays))
            except (OSError, ValueError, EOFError, LookupError, BadZipFile) as error:
                raise RunError(f"{kept}: cannot be read as test cases, delete it: {named(error)}") from error
            written += save(figure, folder, file_stem(suite, f"v{version}", profile, "cases", task, model))
    return written


def make_cases(record: Record, arrays: Mapping[str, np.ndarray]) -> Figure:
    """Draw the three cases of one point, a row each.

    Args:
        record: the point.
        arrays: what `pdebench_fm.scoring.probes.keep_samples` kept.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
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
        text = f"{rank}\nerror {float(arrays['errors'][row]):.3g}\ntest case {int(arrays['examples'][row])}"
        axes[row, 0].set_ylabel(text, fontsize=7)
    given, wanted = map(str, arrays.get("channels", _CHANNELS))
    for column, title in enumerate((given, wanted, "prediction", f"prediction − {wanted}")):
        axes[0, column].set_title(title, fontsize=8)
    what = f"{record.model} on {record.task}, {record.protocol}"
    if record.examples:
        what += f" with N = {record.examples}"
    add_headline(figure, f"{record.suite} v{record.suite_version}, profile {record.profile}: {what}")
    return figure


def _field(axes: Axes, field: np.ndarray, colours: str, limits: tuple[float, float]) -> None:
    """Draw one field with y upwards, and its scale beside it."""
    low, high = limits if limits[1] > limits[0] else (limits[0] - 1, limits[0] + 1)
    image = axes.imshow(field, origin="lower", cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02, aspect=12)
    bar.ax.tick_params(labelsize=5, width=0.4, length=2)
    bar.outline.set_linewidth(0.4)


def _samples(records: Path, job_id: str) -> Path | None:
    """Where a run keeps the test cases of a point: ``OUTPUT/jobs/<id>``, beside ``OUTPUT/<suite>/<model>``."""
    for output in records.absolute().parents[:3]:
        path = output / "jobs" / job_id / SAMPLES
        if path.is_file():
            return path
    return None
