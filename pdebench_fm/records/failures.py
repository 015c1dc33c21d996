"""Why points have no score: each cause once, with what depends on it counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.text import counted
from pdebench_fm.records.record import Record


def failure_lines(records: Iterable[Record]) -> list[str]:
    """Return a line for each cause of points that failed or diverged.

    A point whose pre-training has no score is counted with it. Other points of a model are one line if their first
    trials give the same reason.
    """
    bad = [record for record in records if record.status in ("failed", "diverged")]
    several = len({record.model for record in bad}) > 1
    return [_line(group, several) for group in grouped(bad, lambda record: _cause(record, bad)).values()]


def _cause(record: Record, bad: Sequence[Record]) -> tuple[str, ...]:
    started_from = record.job_id if record.kind == "pretraining" else record.pretrain_job_id
    for other in bad:
        if other.kind == "pretraining" and (other.model, other.job_id) == (record.model, started_from):
            return record.model, other.job_id
    reasons = [trial.reason for trial in record.trials if trial.status == record.status]
    return record.model, record.status, reasons[0] if reasons else record.reason


def _line(group: Sequence[Record], several: bool) -> str:
    first = min(group, key=lambda record: record.kind == "point")
    model = f"{first.model} · " if several else ""
    more = len(group) - 1
    points = counted(more, "more point")
    if first.kind == "pretraining":
        tail = f" ({points} {'starts' if more == 1 else 'start'} from it)" if more else ""
        return f"{first.status}: {model}pre-training {first.task}: {first.reason}{tail}"
    seed = f" · seed {first.seed}" if first.seed else ""
    where = f"{model}{first.task} · {first.protocol} · N={first.examples}{seed}"
    return f"{first.status}: {where}: {first.reason}" + (f" ({points} for the same reason)" if more else "")
