"""Records shown by another metric than the main score."""

from __future__ import annotations

from collections.abc import Iterable

from pdebench_fm.errors import RunError, UnknownNameError
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.record import Record


def with_scores_of(records: Iterable[Record], metric: str) -> list[Record]:
    """Return records for tables and figures in which a metric has the place of the main score.

    Trials stay those that the main score chose. A point without a value of this metric counts as failed.

    Raises:
        UnknownNameError: no record has the metric.
        RunError: it has negative values, so that it is no error: gains and savings are ratios of errors.
    """
    found = list(records)
    known = sorted({name for record in found for name in record.metrics})
    if metric not in known:
        raise UnknownNameError("metric in these records", metric, known)
    if any(record.metrics.get(metric, 0.0) < 0 for record in found):
        raise RunError(f"metric {metric}: has negative values, and tables and figures compare errors")
    return [_with_score_of(record, metric) for record in found]


def _with_score_of(record: Record, metric: str) -> Record:
    if record.status == "ok" and metric not in record.metrics:
        reason = record.notes.get(f"metric {metric}", f"no value of {metric}")
        return record.model_copy(update={"metrics": {}, "interval": {}, "status": "failed", "reason": reason})
    changed = {
        name: {SCORE: values[metric]} if metric in values else {}
        for name, values in (("metrics", record.metrics), ("interval", record.interval))
    }
    return record.model_copy(update=changed)
