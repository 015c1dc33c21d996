"""Trials that a point adds to its own while its best learning rate is at an end of those it has tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from pdebench_fm._util.text import show
from pdebench_fm.errors import PluginError
from pdebench_fm.plan.job import Point, Trial
from pdebench_fm.records.search import Tried, next_value

_SPACE: TypeAdapter[list[dict[str, int | float]]] = TypeAdapter(
    Annotated[list[dict[Annotated[str, Field(min_length=1, max_length=200)], int | FiniteFloat]], Field(min_length=1)]
)


def check_space(who: str, space: Sequence[Mapping[str, float]]) -> list[dict[str, int | float]]:
    """Return a search space if it is one; ``who`` made it."""
    try:
        plain = [dict(tried) if isinstance(tried, Mapping) else tried for tried in space]
        return _SPACE.validate_python(plain, strict=True)
    except ValidationError:
        raise PluginError(
            f"{who}: search_space must return at least one mapping, of names to finite numbers, got {show(space)}"
        ) from None


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
