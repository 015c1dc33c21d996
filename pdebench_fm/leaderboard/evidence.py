"""Records against the errors of their test examples: the score is their mean, the interval follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pdebench_fm.errors import RecordError
from pdebench_fm.interfaces import Metric
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard.audit import Located
from pdebench_fm.records.errors import load_errors
from pdebench_fm.records.record import Record
from pdebench_fm.registry import Registry, registry
from pdebench_fm.scoring.bootstrap import interval

_AGREE = 1e-5
"""Relative difference: errors are kept in float32, scores are computed in float64."""


def against_errors(located: Sequence[Located], found: Registry | None = None) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that do not follow from the errors kept beside them.

    Records without errors are passed over; they can only be verified.
    """
    metric: Metric = (found or registry()).load("metrics", SCORE)()
    for file, records in _by_file(located).items():
        try:
            kept = load_errors(file, (record for _, record in records))
        except RecordError as error:
            yield records[0][0], str(error).removeprefix(f"{file}: ")
            continue
        for where, record in records:
            if record.errors_sha256 is not None and record.job_id in kept:
                yield from ((where, what) for what in _problems(record, kept[record.job_id], metric))


def errors_of(located: Iterable[Located]) -> dict[str, np.ndarray]:
    """Return the errors kept beside some records, by ``file:line``.

    Raises:
        RecordError: they have changed, or cannot be read.
    """
    found = {}
    for file, records in _by_file(located).items():
        kept = load_errors(file, (record for _, record in records))
        for where, record in records:
            if record.job_id in kept and record.errors_sha256 is not None:
                found[where] = kept[record.job_id]
    return found


def _by_file(located: Iterable[Located]) -> dict[Path, list[Located]]:
    files: dict[Path, list[Located]] = {}
    for where, record in located:
        files.setdefault(Path(where.rpartition(":")[0]), []).append((where, record))
    return files


def _problems(record: Record, errors: np.ndarray, metric: Metric) -> Iterator[str]:
    values = errors.astype(np.float64)
    if len(values) != record.test_examples:
        yield f"test_examples: must be {len(values)}, the number of errors kept beside it, got {record.test_examples}"
        return
    score = float(metric.summarise(values))
    if not math.isclose(record.metrics[SCORE], score, rel_tol=_AGREE):
        yield f"metrics.{SCORE}: must be {score:.6g}, as the errors beside it say, got {record.metrics[SCORE]:.6g}"
    expected, stated = interval(metric, values), record.interval[SCORE]
    if not all(math.isclose(one, other, rel_tol=_AGREE) for one, other in zip(expected, stated, strict=True)):
        want, got = (f"[{low:.6g}, {high:.6g}]" for low, high in (expected, stated))
        yield f"interval.{SCORE}: must be {want}, as the errors beside it say, got {got}"
