"""Records as a pandas DataFrame: one row for each record."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.file import collect
from pdebench_fm.records.record import COST, Record

if TYPE_CHECKING:
    from pandas import DataFrame

_SAME = (
    *("suite", "suite_version", "profile", "kind", "task", "shift", "overlap"),
    *("model", "protocol", "examples", "seed", "status", "reason"),
)
_SCORE = ("error", "low", "high")
_MORE = (
    *("learning_rate", "parameters", "epochs", "steps", "train_seconds", "data_seconds", "device", "precision"),
    *COST,
    *("test_examples", "validation_examples", "coefficient_rise", "under_trained", "pretrain_job_id", "job_id"),
)
_TYPES = {
    **dict.fromkeys(("overlap", *_SCORE, "learning_rate", "coefficient_rise", "inference_seconds"), "float64"),
    **dict.fromkeys(("parameters", "validation_examples", "flops", "peak_memory", "inference_batch"), "Int64"),
}


def load_records(runs: str | Path | Iterable[str | Path]) -> DataFrame:
    """Read the records of finished runs.

    Args:
        runs: one or several record files, or folders searched for ``records.jsonl``; ``leaderboard/records`` too.

    Returns:
        the columns of `to_frame`, and ``place``: file and line of the record.

    Raises:
        RecordError: a folder has no records, or a line is malformed.
    """
    paths = [runs] if isinstance(runs, str | os.PathLike) else runs
    found = collect(Path(path) for path in paths)
    return to_frame(record for _, record in found).assign(place=[place for place, _ in found])


def to_frame(records: Iterable[Record]) -> DataFrame:
    """Return one row for each record, in their order.

    Columns:
        suite, suite_version, profile: what was run.
        kind: ``point`` or ``pretraining``.
        task, shift, overlap: the task, the name of its shift, and the measured overlap of the distributions, 0 … 1.
        model, protocol, examples, seed: the model, its arm, N and the seed.
        status, reason: ``ok``, ``diverged``, ``failed`` or ``unsupported``, and why.
        error, low, high: mean relative L2 error over the test set and its 95% interval; NaN unless ok.
        metric.NAME, metric.NAME.low, metric.NAME.high: every other metric and its interval.
        learning_rate: of the chosen trial; NaN without one.
        parameters: number of fitted real numbers.
        epochs, steps, train_seconds, data_seconds: of the chosen trial's fit.
        flops, peak_memory, inference_seconds, inference_batch, inference_device: cost of a prediction.
        device, precision, test_examples, validation_examples: how it was fitted and scored.
        coefficient_rise: relative rise of the error when test examples exchange coefficients.
        under_trained: whether the profile says that models are not trained to the end.
        pretrain_job_id, job_id: ids of the jobs.
    """
    from pandas import DataFrame

    rows = [_row(record) for record in records]
    metrics = sorted({name for row in rows for name in row} - {*_SAME, *_SCORE, *_MORE})
    frame = DataFrame(rows, columns=[*_SAME, *_SCORE, *metrics, *_MORE])
    return frame.astype({**_TYPES, **dict.fromkeys(metrics, "float64")})


def _row(record: Record) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in (*_SAME, *_MORE)}
    for name, value in record.metrics.items():
        low, high = record.interval.get(name, (None, None))
        keys = _SCORE if name == SCORE else (f"metric.{name}", f"metric.{name}.low", f"metric.{name}.high")
        row |= zip(keys, (value, low, high), strict=True)
    return row
