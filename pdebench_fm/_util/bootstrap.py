"""Bootstrap: which observations each resample has, the same on every machine."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np

from pdebench_fm.streams import Stream

RESAMPLES = 1000


@cache
def resamples(count: int, over: Literal["test examples", "seeds"]) -> np.ndarray:
    """Return the indices in each resample of ``count`` observations, (RESAMPLES, count)."""
    stream = {"bootstrap": count} if over == "test examples" else {"bootstrap": "seeds", "count": count}
    return (Stream(stream, count).uniform(range(RESAMPLES)) * count).astype(np.int64)
