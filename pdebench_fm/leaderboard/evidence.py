"""Records against the errors of their test examples: the score is their mean, the interval follows from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pdebench_fm._util.bootstrap import example_weights
from pdebench_fm._util.grouping import grouped
from pdebench_fm.errors import RecordError
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard.audit import Located
from pdebench_fm.records.errors import load_errors
from pdebench_fm.records.file import file_of
from pdebench_fm.records.record import Record

_AGREE = 1e-5
"""Relative difference: errors are kept in float32, scores are computed in float64."""

_TOGETHER = 256
"""Records whose intervals are computed in one product."""


def against_errors(located: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that do not follow from the errors kept beside them.

    Records without errors are passed over; they can only be verified.
    """
    for file, records in grouped(located, lambda one: file_of(one[0])).items():
        try:
            kept = load_errors(file, (record for _, record in records))
        except RecordError as error:
            yield records[0][0], str(error).removeprefix(f"{file}: ")
            continue
        sizes: dict[int, list[Located]] = {}
        for where, record in records:
            if (errors := kept.get(record.errors_sha256 or "")) is not None:
                sizes.setdefault(len(errors), []).append((where, record))
        for of_size in sizes.values():
            for start in range(0, len(of_size), _TOGETHER):
                some = of_size[start : start + _TOGETHER]
                yield from _compare(some, np.array([kept[str(r.errors_sha256)] for _, r in some], np.float64))


def _compare(located: Sequence[Located], errors: np.ndarray) -> Iterator[tuple[str, str]]:
    """Compare records with their errors, (records, examples)."""
    count = errors.shape[1]
    means = example_weights(count) @ errors.T  # (resamples, records)
    intervals = np.quantile(means, [0.025, 0.975], axis=0).T
    for (where, record), score, interval in zip(located, errors.mean(axis=1), intervals, strict=True):
        yield from ((where, what) for what in _problems(record, count, score, interval))


def errors_of(located: Iterable[Located]) -> dict[str, np.ndarray]:
    """Return the errors kept beside some records, by their hash."""
    found: dict[str, np.ndarray] = {}
    for file, records in grouped(located, lambda one: file_of(one[0])).items():
        found |= load_errors(file, (record for _, record in records))
    return found


def _problems(record: Record, examples: int, score: float, interval: np.ndarray) -> Iterator[str]:
    """Compare a record with the mean of its errors and the ends of their interval, (2,)."""
    if examples != record.test_examples:
        yield f"test_examples: must be {examples}, the number of errors kept beside it, got {record.test_examples}"
        return
    if not math.isclose(record.metrics[SCORE], score, rel_tol=_AGREE):
        yield f"metrics.{SCORE}: must be {score:.6g}, as the errors beside it say, got {record.metrics[SCORE]:.6g}"
    stated = record.interval[SCORE]
    if not np.allclose(interval, stated, rtol=_AGREE, atol=0):
        want, got = (f"[{low:.6g}, {high:.6g}]" for low, high in (interval, stated))
        yield f"interval.{SCORE}: must be {want}, as the errors beside it say, got {got}"
