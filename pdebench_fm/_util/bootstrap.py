"""Bootstrap: which observations each resample has, the same on every machine."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Literal

import numpy as np

from pdebench_fm.streams import Stream

RESAMPLES = 1000


@cache
def resamples(count: int, over: Literal["test examples", "seeds"]) -> np.ndarray:
    """Return the indices in each resample of ``count`` observations, (RESAMPLES, count)."""
    return _indices({"bootstrap": count} if over == "test examples" else {"bootstrap": "seeds", "count": count}, count)


@lru_cache(maxsize=16)  # 8 MB each for 1,024 test examples
def weights(count: int, of: str) -> np.ndarray:
    """Return the share of each observation in each resample, (RESAMPLES, count).

    Args:
        count: number of observations.
        of: what they are: the hash of a test set, or ``tasks``. Other observations are drawn independently.
    """
    return _shares(_indices({"bootstrap": of, "count": count}, count))


@lru_cache(maxsize=16)
def example_weights(count: int) -> np.ndarray:
    """Return the share of each test example in each of their `resamples`, (RESAMPLES, count)."""
    return _shares(resamples(count, "test examples"))


def _shares(indices: np.ndarray) -> np.ndarray:
    count: int = indices.shape[1]
    flat = indices + count * np.arange(RESAMPLES)[:, None]
    shares: np.ndarray = np.bincount(flat.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count) / count
    return shares


def _indices(stream: dict[str, object], count: int) -> np.ndarray:
    return (Stream(stream, count).uniform(range(RESAMPLES)) * count).astype(np.int64)
