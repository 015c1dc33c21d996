"""Scoring: predictions against the truth, example by example, and intervals by bootstrap over the test examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from pdebench_fm.data.sources import OpenSet
from pdebench_fm.errors import FOREIGN, DataFileError, RunError
from pdebench_fm.interfaces import Metric, OperatorModel
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.interfaces.pde_system import NoResidualError
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.streams import Stream
from pdebench_fm.training.precision import matmul_precision

EVALUATION_VERSION = "2"
RESAMPLES = 1000


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
                except FOREIGN as error:
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


def interval(metric: Metric, values: np.ndarray) -> tuple[float, float]:
    """95% percentile interval of the summary, by bootstrap over the examples (1,000 resamples, fixed stream).

    Raises:
        RunError: the metric does not summarise over the last axis alone.
    """
    summaries = metric.summarise(values[_resamples(len(values))])
    if np.shape(summaries) != (RESAMPLES,):  # the spread of anything else would be no interval
        raise RunError(f"summarise must return (…) for (…, examples): ({RESAMPLES},), got {np.shape(summaries)}")
    low, high = np.quantile(summaries, [0.025, 0.975])
    return float(low), float(high)


@cache
def _resamples(size: int) -> np.ndarray:
    """Indices of the resampled examples, (RESAMPLES, size)."""
    uniform = Stream({"bootstrap": size}, size).uniform(range(RESAMPLES))
    return (uniform * size).astype(np.int64)
