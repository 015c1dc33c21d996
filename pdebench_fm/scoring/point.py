"""How a point is scored: choose among its trials, then measure the chosen model on the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pdebench_fm._util.text import quoted, reason_of
from pdebench_fm.data.open import OpenSet
from pdebench_fm.data.values import check_target
from pdebench_fm.errors import PLUGIN_ERRORS, DivergedError, RunError
from pdebench_fm.interfaces import Metric, OperatorModel
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.interfaces.pde_system import NoResidualError
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import located
from pdebench_fm.scoring.bootstrap import interval
from pdebench_fm.training.precision import matmul_precision

EVALUATION_VERSION = "2"
"""Version of this file: if it changes, points are scored again from the weights that were kept."""


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run.

    Args:
        made: by name.
        left_out: why others could not be made, as notes of a record.
    """

    made: Mapping[str, Metric]
    versions: Mapping[str, str]
    left_out: Mapping[str, str]

    def scored_with(self) -> dict[str, Any]:
        """Return the versions of everything that decides the scores of a given model, as plain data."""
        return {"versions": dict(self.versions), "evaluation": EVALUATION_VERSION}


def load_metrics(registry: Registry) -> Metrics:
    """Make every registered metric; one that cannot be made is left out, unless it is the main score."""
    made, left_out = {}, {}
    for name in registry.names("metrics"):
        try:
            made[name] = registry.load("metrics", name)()
        except PLUGIN_ERRORS as error:
            if name == SCORE:
                raise
            left_out[f"metric {name}"] = quoted(f"left out: {reason_of(error)}")
    return Metrics(made, {name: registry.get("metrics", name).version for name in made}, left_out)


def choose(trials: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the id of the trial with the lowest validation error; None without trials."""
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
        scores: by metric.
        intervals: 95% interval of each.
        left_out: why other metrics have no score, as notes of a record.
    """

    errors: np.ndarray
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    left_out: dict[str, str]


def validation_error(model: OperatorModel, sets: Sequence[OpenSet], metrics: Metrics) -> float:
    """Return the error by which trials are chosen."""
    metric = metrics.made[SCORE]
    return float(metric.summarise(per_sample(model, sets, {SCORE: metric})[SCORE]))


def measure(model: OperatorModel, sets: Sequence[OpenSet], metrics: Metrics) -> Measured:
    """Score a model on its test set; it has diverged if the main score is not finite."""
    scores: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    left_out: dict[str, str] = {}
    values = per_sample(model, sets, metrics.made, left_out)
    for name, each in values.items():
        metric = metrics.made[name]
        try:
            with np.errstate(all="ignore"):  # what is not finite is left out below
                value, (low, high) = float(metric.summarise(each)), interval(metric, each)
        except PLUGIN_ERRORS as error:
            _leave_out(name, error, left_out)
            continue
        if np.isfinite([value, low, high]).all():
            scores[name], intervals[name] = value, (low, high)
        else:
            left_out[f"metric {name}"] = f"left out: its value is {value}, its interval {low} to {high}"
    if SCORE not in scores:
        raise DivergedError(f"test {SCORE} is not finite")
    return Measured(values[SCORE], scores, intervals, left_out)


def per_sample(
    model: OperatorModel, sets: Sequence[OpenSet], metrics: Mapping[str, Metric], left_out: dict[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Score every example of ``sets``.

    A metric that needs the PDE, or its residual, is left out if a set comes without one.

    Args:
        left_out: takes why a metric failed, as a note of a record. The main score may not fail.

    Returns:
        metric name → float64 (examples,), in the order of the sets.
    """
    with_system = all(opened.system is not None for opened in sets)
    values: dict[str, list[np.ndarray]] = {
        name: [] for name, metric in metrics.items() if with_system or not metric.needs_system
    }
    for opened in sets:
        problem = opened.examples.problem
        for number, (inputs, target) in enumerate(opened.examples.batches()):
            check_target(opened.name, problem, target, number * CHUNK)
            prediction = predict(model, problem, inputs, target)
            for name in list(values):
                try:
                    scores = metrics[name].per_sample(problem, inputs, prediction, target, opened.system)
                    values[name].append(_checked(name, scores, len(target[problem.output_names[0]])))
                except NoResidualError:
                    del values[name]
                except PLUGIN_ERRORS as error:
                    _leave_out(name, error, left_out)
                    del values[name]
    return {name: np.concatenate(parts) for name, parts in values.items()}


def _checked(name: str, scores: Tensor, count: int) -> np.ndarray:
    if tuple(scores.shape) != (count,):
        raise RunError(f"metric {name!r}: per_sample must return (batch,), got {tuple(scores.shape)}")
    values: np.ndarray = scores.detach().double().cpu().numpy()
    return values


def _leave_out(name: str, error: BaseException, left_out: dict[str, str] | None) -> None:
    """Note why a metric has no score; only the main score may not fail."""
    if name == SCORE or left_out is None:
        raise error
    left_out[f"metric {name}"] = quoted(f"left out: {located(error)}")


def predict(model: OperatorModel, problem: Problem, inputs: Fields, target: Fields) -> Fields:
    """Return a model's outputs in float32 arithmetic, in the order of the problem."""
    with matmul_precision(tf32=False):
        prediction = model.predict(problem, inputs)
    for name in problem.output_names:  # broadcasting another shape would give wrong scores
        if name not in prediction or prediction[name].shape != target[name].shape:
            got = tuple(prediction[name].shape) if name in prediction else "nothing"
            raise RunError(f"predict must return {name!r} of shape {tuple(target[name].shape)}, got {got}")
    return {name: prediction[name] for name in problem.output_names}
