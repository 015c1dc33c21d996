"""How a point is scored: choose among its trials, measure the chosen model, and ask what lies beyond the score."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pdebench_fm._util.text import named, quoted, reason_of
from pdebench_fm.data.open import OpenSet
from pdebench_fm.errors import PLUGIN_ERRORS, DataFileError, DivergedError, RunError
from pdebench_fm.interfaces import Metric, OperatorModel
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.interfaces.pde_system import NoResidualError
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry import Registry
from pdebench_fm.scoring.bootstrap import interval
from pdebench_fm.training.precision import matmul_precision


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
        except PLUGIN_ERRORS as error:
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
        except PLUGIN_ERRORS as error:
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


EVALUATION_VERSION = "2"


def per_sample(
    model: OperatorModel,
    sets: Sequence[OpenSet],
    metrics: Mapping[str, Metric],
    failed: dict[str, BaseException] | None = None,
) -> dict[str, np.ndarray]:
    """Score every example of ``sets``.

    A metric that needs the PDE, or its residual, is left out where a set comes without one.

    Args:
        model: what predicts.
        sets: examples with their PDE, if they have one.
        metrics: by name.
        failed: takes what metrics raise, by name, and these are left out; where None, it is raised.

    Returns:
        metric name → float64 (examples,), in the order of the sets.

    Raises:
        DataFileError: a reference solution is zero everywhere, or not finite: no relative error is defined.
        RunError: the model returned something else than the outputs asked for.
    """
    usable = {
        name: metric
        for name, metric in metrics.items()
        if not metric.needs_system or all(opened.system is not None for opened in sets)
    }
    values: dict[str, list[np.ndarray]] = {name: [] for name in usable}
    for opened in sets:
        examples, problem = opened.examples, opened.examples.problem
        for number, (inputs, target) in enumerate(examples.batches()):
            _check(opened.name, problem, target, number * CHUNK)
            with matmul_precision(tf32=False):
                prediction = model.predict(problem, copied(inputs))
            for name in problem.output_names:
                if name not in prediction or prediction[name].shape != target[name].shape:
                    got = tuple(prediction[name].shape) if name in prediction else "nothing"
                    raise RunError(f"predict must return {name!r} of shape {tuple(target[name].shape)}, got {got}")
                if not isinstance(prediction[name], type(target[name])):
                    raise RunError(f"predict must return {name!r} as a tensor, got {type(prediction[name]).__name__}")
            prediction = {name: prediction[name] for name in problem.output_names}
            for name, metric in list(usable.items()):
                mine = copied(inputs), copied(prediction), copied(target)
                try:
                    scores = metric.per_sample(problem, *mine, opened.system)
                    if tuple(scores.shape) != (len(inputs[problem.input_fields[0]]),):
                        raise RunError(f"per_sample must return (batch,), got {tuple(scores.shape)}")
                    values[name].append(scores.detach().double().cpu().numpy())
                except NoResidualError:
                    del usable[name], values[name]
                except PLUGIN_ERRORS as error:
                    if failed is None:
                        raise
                    failed[name] = error
                    del usable[name], values[name]
    return {name: np.concatenate(parts) for name, parts in values.items()}


def copied(fields: Fields) -> Fields:
    """Return a copy for somebody else's code, which may work in place."""
    return {name: values.clone() for name, values in fields.items()}


def _check(name: str, problem: Problem, target: Fields, start: int) -> None:
    """Blame the data for what would otherwise look like a model that diverged."""
    largest = np.max([target[name].abs().amax(dim=(-2, -1)).cpu().numpy() for name in problem.output_names], axis=0)
    usable = np.isfinite(largest) & (largest > 0)
    if not usable.all():
        first = int(np.flatnonzero(~usable)[0])
        what = "zero everywhere" if largest[first] == 0 else "not finite"
        raise DataFileError(
            f"{name}: the reference solution of example {start + first} is {what}: relative errors are not defined"
        )
