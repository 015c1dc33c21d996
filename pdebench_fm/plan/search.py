"""Trials that a point adds to its own while its best learning rate is at an end of those it has tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pdebench_fm.plan.job import Point, Trial
from pdebench_fm.records.search import Tried, next_value


def next_trials(point: Point, trials: Sequence[Trial], results: Mapping[str, Mapping[str, Any]]) -> list[Trial]:
    """Return the next trial of a point; an empty list ends its search.

    Args:
        point: its `extend` says how many trials it may add in all.
        trials: its own, then those already added.
        results: of each trial, by id. If one is missing, the point will fail, and nothing is added.
    """
    if len(trials) - len(point.trials) >= point.extend or any(trial.id not in results for trial in trials):
        return []
    value = next_value([Tried(trial.hyperparameters, results[trial.id]["validation"]) for trial in trials])
    return [] if value is None else [with_value(trials[0], point, value)]


def with_value(trial: Trial, point: Point, value: Mapping[str, float]) -> Trial:
    """Return a trial with other hyperparameters and the label that goes with them."""
    return replace(trial, hyperparameters=dict(value), label=f"{point.label} · {in_words(value)}")


def in_words(hyperparameters: Mapping[str, float]) -> str:
    """Return hyperparameters as the end of a label."""
    return ", ".join(f"{name}={value:g}" for name, value in hyperparameters.items()) or "direct"
