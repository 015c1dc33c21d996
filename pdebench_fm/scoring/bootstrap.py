"""Intervals of a score by bootstrap over the test examples."""

from __future__ import annotations

import numpy as np

from pdebench_fm._util.bootstrap import RESAMPLES, resamples
from pdebench_fm.errors import RunError
from pdebench_fm.interfaces import Metric


def interval(metric: Metric, values: np.ndarray) -> tuple[float, float]:
    """Return the 95% percentile interval of the summary, by bootstrap over the examples (1,000 resamples)."""
    summaries = metric.summarise(values[resamples(len(values), "test examples")])
    if np.shape(summaries) != (RESAMPLES,):
        raise RunError(f"summarise must return (…) for (…, examples): ({RESAMPLES},), got {np.shape(summaries)}")
    low, high = np.quantile(summaries, [0.025, 0.975])
    return float(low), float(high)
