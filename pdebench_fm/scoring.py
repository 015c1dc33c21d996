"""How a point is scored: choose among its trials, measure the chosen model, and ask what lies beyond the score."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm.data.sources import OpenSet
from pdebench_fm.errors import FOREIGN
from pdebench_fm.evaluation import EVALUATION_VERSION, interval, per_sample
from pdebench_fm.interfaces import Metric, OperatorModel
from pdebench_fm.jobs import SCORE
from pdebench_fm.messages import named, quoted, reason_of
from pdebench_fm.plugins import Registry
from pdebench_fm.probes import coefficient_rise, keep_samples


class DivergedError(Exception):
    """Training diverged, and so there is nothing to fit or score."""


def load_metrics(registry: Registry) -> tuple[dict[str, Metric], dict[str, str]]:
    """Make every registered metric.

    Returns:
        those that can be made, by name, and notes of a record on those that cannot.

    Raises:
        PluginError: the main score cannot be loaded.
        Exception: what its constructor raises.
    """
    metrics, left_out = {}, {}
    for name in registry.names("metrics"):
        try:
            metrics[name] = registry.load("metrics", name)()
        except FOREIGN as error:
            if name == SCORE:
                raise
            left_out[f"metric {name}"] = quoted(f"left out: {reason_of(error)}")
    return metrics, left_out


def scored_with(registry: Registry, metrics: Collection[str]) -> dict[str, Any]:
    """Versions of all that decides what a given model's scores are, as plain data.

    Args:
        registry: where the metrics come from.
        metrics: the names of those that can be made: once another one can, points are scored again.
    """
    versions = {name: registry.get("metrics", name).version for name in sorted(metrics)}
    return {"versions": versions, "evaluation": EVALUATION_VERSION}


def choose(trials: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the id of the trial with the lowest validation error; None where there are no trials to choose from.

    Args:
        trials: the result of each, by id.

    Raises:
        DivergedError: all of them diverged.
    """
    errors = {id: result["validation"] for id, result in trials.items() if result["status"] == "ok"}
    if trials and not errors:
        reason = "; ".join(sorted({result["reason"] for result in trials.values()}))
        raise DivergedError(f"all {len(trials)} trials diverged: {reason}")
    return min(errors, key=lambda id: errors[id], default=None)


@dataclass(frozen=True)
class Measured:
    """What a model's predictions on the test set are worth.

    Args:
        errors: the main score of each example, (examples,).
        metrics: score by metric.
        intervals: 95% interval of each.
        left_out: why other metrics have no score, as notes of a record.
    """

    errors: np.ndarray
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    left_out: dict[str, str]


def validation_error(model: OperatorModel, sets: Sequence[OpenSet], metrics: Mapping[str, Metric]) -> float:
    """Return the error by which trials are chosen."""
    return float(metrics[SCORE].summarise(per_sample(model, sets, {SCORE: metrics[SCORE]})[SCORE]))


def measure(model: OperatorModel, sets: Sequence[OpenSet], metrics: Mapping[str, Metric]) -> Measured:
    """Score a model on its test set. A metric of somebody else's cannot decide what becomes of the point.

    Raises:
        DivergedError: the main score is not finite.
        Exception: what the main metric raises.
    """
    failed: dict[str, BaseException] = {}
    values = per_sample(model, sets, metrics, failed)
    scores: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    for name, each in values.items():
        try:
            value, ends = float(metrics[name].summarise(each)), interval(metrics[name], each)
        except FOREIGN as error:
            failed[name] = error
            continue
        if np.isfinite([value, *ends]).all() and value >= 0:
            scores[name], intervals[name] = value, ends
        else:
            left_out[f"metric {name}"] = f"left out: its value is {value}, its interval {ends[0]} to {ends[1]}"
    if SCORE in failed:
        raise failed[SCORE]
    if SCORE not in scores:
        raise DivergedError(f"test {SCORE} is not finite")
    left_out |= {f"metric {name}": quoted(f"left out: {named(error)}") for name, error in failed.items()}
    return Measured(values[SCORE], scores, intervals, left_out)


def probe(
    model: OperatorModel, sets: Sequence[OpenSet], metric: Metric, errors: np.ndarray, folder: Path
) -> tuple[float | None, dict[str, str]]:
    """Keep sample predictions in ``folder``, and exchange coefficients, see `pdebench_fm.probes`.

    Returns:
        by how much the error rises with exchanged coefficients, and a note where something went wrong: what is asked
        beyond the score must not cost it.
    """
    try:
        keep_samples(model, sets, errors, folder)
        return coefficient_rise(model, sets, metric, errors), {}
    except FOREIGN as error:
        return None, {"probes": quoted(f"not taken: {named(error)}")}
