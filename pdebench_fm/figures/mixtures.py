"""One downstream distribution reached from several pre-trainings, in one panel (the paper's Figs. 6 and B.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pdebench_fm._util.identity import canonical_json
from pdebench_fm.figures import panels
from pdebench_fm.figures.style import COLOURS, DARK, distinct_colours, line_style
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, ZERO_SHOT
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.shift import UNKNOWN, Shifts
from pdebench_fm.tables.wording import natural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEEDS = "two tasks with the same downstream examples and different pre-trainings, with the records of these"


def make(records: Sequence[Record], shifts: Shifts = UNKNOWN) -> panels.Made:
    """Return a figure for each model of one suite, version and profile: a panel for each downstream distribution.

    Args:
        records: points and pre-trainings. The record of its pre-training names the source of a task.
        shifts: known distributions of the tasks.
    """
    names = {record.job_id: record.task for record in records if record.kind == "pretraining"}
    found: panels.Made = []
    for model in sorted({record.model for record in records}, key=natural):
        points = [record for record in records if record.model == model and record.kind == "point"]
        groups = _groups(points, names)
        if groups:
            found.append(("", [model], _draw(groups, model, shifts)))
    return found


def _groups(points: Sequence[Record], names: Mapping[str, str]) -> list[dict[str, panels.TaskCurves]]:
    """Return the tasks of each downstream distribution, by the pre-training they start from.

    Args:
        points: of one model.
        names: job id of a pre-training → its source.
    """
    sources: dict[str, str] = {}
    downstream: dict[str, str] = {}
    for record in points:
        source = names.get(record.pretrain_job_id or "")
        if source is not None and SCORE in record.metrics and record.examples > 0:
            sources[record.task] = source
        if (same := _downstream(record)) is not None:
            downstream[record.task] = same
    alike: dict[str, dict[str, panels.TaskCurves]] = {}
    for task in panels.by_task(points):
        if task.name in sources and task.name in downstream:
            alike.setdefault(downstream[task.name], {})[sources[task.name]] = task
    return [group for group in alike.values() if len(group) > 1]


def _downstream(record: Record) -> str | None:
    """Return a key of the test examples; None if the job does not say where they come from."""
    test = record.described.test
    return canonical_json(test.plain_sets()) if test.named else None


def _draw(groups: Sequence[Mapping[str, panels.TaskCurves]], model: str, shifts: Shifts) -> Figure:
    # The panel of a group has the name and the shift of its plainest task.
    plainest = [min(group.values(), key=lambda task: (len(task.name), natural(task.name))) for group in groups]
    sheet = panels.Sheet(plainest, shifts)
    sources = sorted({source for group in groups for source in group}, key=natural)
    colours = distinct_colours(len(sources))
    looks = {source: line_style(colours[index], index) for index, source in enumerate(sources)}
    fresh = {**line_style(COLOURS[SCRATCH], len(sources)), "linestyle": (0, (1, 3.5))}
    drawn = []
    for ((axes,), task), group in zip(sheet, groups, strict=True):
        axes.set_yscale("log")
        sheet.size_axis(axes, with_zero=any(0 in other.sizes() for other in group.values()))
        curves = [(other, arm, looks[source]) for source, other in group.items() for arm in (FINE_TUNE, ZERO_SHOT)]
        for other, arm, look in [*curves, (task, SCRATCH, fresh)]:  # scratch is the same for every pre-training
            if (curve := other.curves.get((model, arm))) is not None:
                panels.draw_curve(axes, curve, other.sizes(arm), look, panels.quartiles)
                drawn.append((arm, curve))
        sheet.dress(axes, task)
    panels.label_errors(sheet.stacks[0][0])
    entries: list[panels.Entry] = [(looks[source], f"pre-trained on {source}") for source in sources]
    if any(arm == SCRATCH for arm, _ in drawn):
        entries.append((fresh, "from scratch"))
    if any(panels.quartiles(point) for _, curve in drawn for point in curve.points):
        entries.append(({"color": DARK, "linewidth": 5, "alpha": 0.2}, "quartiles over seeds"))
    return sheet.finish([*entries, *sheet.special_entries()], sheet.headline([model], "zero-shot at N = 0"))
