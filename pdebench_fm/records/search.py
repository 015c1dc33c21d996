"""Whether a point's search for a learning rate is closed, and which rate it tries next if not.

A search is open while its best trial has the smallest or the largest rate that was tried: a better one may lie beyond.
A trial that diverged beyond the best one closes that end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

RATE = "learning_rate"

SearchState = Literal["closed", "open-low", "open-high"]


class Tried(NamedTuple):
    """A value of the search space, and its validation error; None if the trial diverged."""

    hyperparameters: Mapping[str, float]
    validation: float | None


def search_state(trials: Sequence[Tried]) -> SearchState | None:
    """Return whether the best rate has rates on both sides; None if there were not two rates to compare.

    Other hyperparameters stay fixed: only trials that share the best one's are compared.
    """
    rates, best = _rates_around_best(trials)
    if len(rates) < 2:
        return None
    return "open-low" if best == rates[0] else "open-high" if best == rates[-1] else "closed"


def next_value(trials: Sequence[Tried]) -> dict[str, float] | None:
    """Return the hyperparameters to try next, None if the search is closed.

    The next rate has the same ratio to the best one as the best one to its neighbour, to six digits.
    """
    state = search_state(trials)
    if state in (None, "closed"):
        return None
    rates, best = _rates_around_best(trials)
    neighbour = rates[1] if state == "open-low" else rates[-2]
    return {**_best(trials).hyperparameters, RATE: float(f"{best * best / neighbour:.6g}")}


def _best(trials: Sequence[Tried]) -> Tried:
    """Return the first of the trials with the lowest error, as a point chooses."""
    return min(trials, key=lambda trial: float("inf") if trial.validation is None else trial.validation)


def _rates_around_best(trials: Sequence[Tried]) -> tuple[list[float], float]:
    """Return the rates tried with the best trial's other hyperparameters, rising, and the best one's own."""
    if not trials or _best(trials).validation is None or RATE not in _best(trials).hyperparameters:
        return [], 0.0
    best = _best(trials).hyperparameters
    alike = [t.hyperparameters for t in trials if {**t.hyperparameters, RATE: best[RATE]} == {**best}]
    return sorted({values[RATE] for values in alike}), best[RATE]
