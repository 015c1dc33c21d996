"""The headline question for each task: does the pre-training pay, and how much data does it save?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.text import counted
from pdebench_fm.records.curves import (
    FINE_TUNE,
    SCORED,
    SCRATCH,
    ZERO_SHOT,
    Curve,
    has_logarithm,
    make_curves,
    transfer_curves,
)
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.records.savings import Gains, MeanFactor, geometric_mean, mean_factor, savings, transfer_gains

FEWEST_SEEDS = 5
"""With fewer, a bootstrap over seeds is their range, and holds the truth less often than it says."""


@dataclass(frozen=True)
class Answer:
    """What one model's pre-training is worth on one task.

    Args:
        arm: the arm that uses the pre-training: fine-tuning with zero-shot as its N = 0, or a plugin's.
        scratch: the curve from scratch; None if the suite does not train from scratch.
        gains: scratch error / error of the arm, at each N of both.
        saving: mean factor of the data savings; None if there are none.
        score: geometric mean of the median errors of zero-shot and fine-tuning; None for other arms, and unless every
            planned cell has a score.
    """

    task: str
    model: str
    arm: str
    tuned: Curve
    scratch: Curve | None
    gains: Gains
    saving: MeanFactor | None
    score: float | None


def answers(records: Iterable[Record], planned: Collection[Cell] | None = None) -> list[Answer]:
    """Return an answer for every task, model and arm that uses the pre-training, in the order of the records.

    Args:
        records: of one suite, version and profile.
        planned: the cells that a score needs; by default those of the records.
    """
    points = [record for record in records if record.kind == "point"]
    wanted = {record.cell for record in points} if planned is None else {*planned}
    have = {(record.model, record.cell) for record in points if record.status == "ok"}
    arms: dict[tuple[str, str], dict[str, Curve]] = {}
    for (model, task, arm), curve in make_curves(points).items():
        arms.setdefault((task, model), {})[arm] = curve
    found = []
    for (task, model), curves in arms.items():
        needed = [cell for cell in wanted if cell.task == task and cell.protocol in SCORED]
        complete = bool(needed) and all((model, cell) in have for cell in needed)
        for curve in transfer_curves(curves):
            if curve.protocol == ZERO_SHOT and FINE_TUNE in curves:  # no fine-tuning has a score
                continue
            found.append(_answer(curve, curves.get(SCRATCH), complete))
    return found


def _answer(tuned: Curve, scratch: Curve | None, complete: bool) -> Answer:
    known = scratch is not None and scratch.trained
    of_score = [point.median for point in tuned.points] if complete and tuned.protocol in SCORED else []
    return Answer(
        tuned.task,
        tuned.model,
        tuned.protocol,
        tuned,
        scratch,
        transfer_gains(tuned, scratch) if scratch is not None and known else Gains({}, None, None),
        mean_factor(savings(tuned, scratch, intervals=False)) if scratch is not None and known else None,
        geometric_mean(of_score) if all(map(has_logarithm, of_score)) else None,
    )


def sentences(found: Sequence[Answer], seeds: int) -> list[str]:
    """Return what was shown, a sentence or two for each model and arm."""
    groups = grouped(found, lambda answer: (answer.model, answer.arm))
    several_models = len({model for model, _ in groups}) > 1
    several_arms = len({arm for _, arm in groups}) > 1
    texts = []
    for (model, arm), of_arm in groups.items():
        who = ", ".join([*([model] if several_models else []), *([arm] if several_arms else [])])
        texts.append((f"{who}: " if who else "") + _sentence(of_arm, seeds))
    return texts


def _sentence(found: Sequence[Answer], seeds: int) -> str:
    compared = [answer for answer in found if answer.gains.mean is not None]
    if not compared:
        return "Pre-training cannot be compared with scratch: no task has scores of both at every N."
    means = [answer.gains.mean or 0.0 for answer in compared]
    pays = sum(mean > 1 for mean in means)
    text = f"At equal N, pre-training lowers the error on {pays} of {counted(len(compared), 'task')}"
    text += f": scratch error / error after pre-training is {_range(means)}."
    if len(compared) == len(found) and (further := _further(compared)) is not None:
        text += f" {further}"
    if len(compared) < len(found):
        text += f" Not compared, for lack of scores: {len(found) - len(compared)} of {counted(len(found), 'task')}."
    sure = [answer for answer in compared if answer.gains.interval is not None and answer.gains.interval[0] > 1]
    if seeds == 1:
        return text + " One seed: another training may differ."
    if seeds < FEWEST_SEEDS:  # the range of two seeds misses the truth every other time
        return text + f" {seeds} seeds: too few for an interval, which takes {FEWEST_SEEDS}."
    return text + f" The 95% interval over {seeds} seeds is above 1 on {len(sure)} of {counted(len(compared), 'task')}."


def _further(found: Sequence[Answer]) -> str | None:
    """Return how few examples after pre-training beat how many from scratch, if they do so on every task."""
    smallest = {curve.trained[0].examples for curve in (answer.tuned for answer in found)}
    few = max(smallest)
    many: list[int] = []
    ratios: list[list[float]] = []
    sizes = set.intersection(*({p.examples for p in a.scratch.trained} for a in found if a.scratch is not None))
    for size in sorted(sizes):
        pairs = [(a.scratch.point(size) if a.scratch else None, a.tuned.point(few)) for a in found]
        at = [theirs.median / ours.median for theirs, ours in pairs if theirs and ours and ours.median > 0]
        if size > few and len(at) == len(found) and min(at) > 1:
            many.append(size)
            ratios.append(at)
    if not many:
        return None
    where = f"every task: the error is {_range(ratios[-1])} times smaller"
    return f"{few} examples after pre-training beat {many[-1]} from scratch on {where}."


def _range(values: Sequence[float]) -> str:
    low, high = (f"{value:.2g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
