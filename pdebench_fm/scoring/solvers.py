"""How a numerical solver is scored: on the test examples of a task, by the error and the clock that models get."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pdebench_fm.data.open import OpenSet, SetSpec, open_set
from pdebench_fm.errors import UnsupportedError
from pdebench_fm.hookspecs import SolverEntry
from pdebench_fm.interfaces.examples import CHUNK
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import bind, call
from pdebench_fm.scoring.bootstrap import interval
from pdebench_fm.scoring.cost import fastest


def measure_solver(
    entry: SolverEntry, spec: SetSpec, registry: Registry, examples: int | None = None
) -> dict[str, Any]:
    """Solve test examples and compare with their reference solutions, on the CPU.

    Args:
        examples: solve only the first ones.

    Returns:
        ``arguments``, ``test_examples``, ``error``, ``interval``, ``inference_seconds`` and ``inference_batch``.
    """
    opened = open_set(spec, registry, "cpu")
    if opened.system is None:
        raise UnsupportedError("these examples have no system")
    factory = registry.load("solvers", entry.name)
    arguments = bind(factory, entry.arguments, reserved=("system",))
    solve = call(factory, arguments, system=opened.system)
    count = min(examples or len(opened.examples), len(opened.examples))
    errors = _errors(solve, opened, count, registry)
    batch = min(CHUNK, count)
    inputs = opened.examples.input_batch(range(batch))
    metric = registry.load("metrics", SCORE)()
    return {
        "arguments": arguments,
        "test_examples": count,
        "error": float(metric.summarise(errors)),
        "interval": interval(metric, errors),
        "inference_seconds": fastest(lambda: solve(inputs), "cpu") / batch,
        "inference_batch": batch,
    }


def _errors(solve: Any, opened: OpenSet, count: int, registry: Registry) -> np.ndarray:
    metric, problem = registry.load("metrics", SCORE)(), opened.examples.problem
    found = []
    for start in range(0, count, CHUNK):
        inputs, target = opened.examples.batch(range(start, min(start + CHUNK, count)))
        with torch.no_grad():
            solved = solve(inputs)
        found.append(metric.per_sample(problem, inputs, solved, target, opened.system).double().numpy())
    return np.concatenate(found)
