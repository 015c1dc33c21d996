"""What a plan will cost: training examples, time and disk, from a few steps of the real model on noise."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pdebench_fm.errors import RunError
from pdebench_fm.interfaces import Budget, Examples, FitContext, Ids, OperatorModel, Trial
from pdebench_fm.plan import Job, Plan, trained_examples, training_size
from pdebench_fm.plugins import Registry
from pdebench_fm.problem import Fields, Problem

_MICRO_BATCH = 16
_STEPS = 4


@dataclass(frozen=True)
class Estimate:
    """Cost of some jobs.

    Args:
        examples: training examples that pass through the model, epochs counted.
        seconds: rough time on this machine.
        bytes: rough disk space of the weights that are kept, resume state included.
    """

    examples: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class _Rates:
    """Seconds an example."""

    direct: bool
    train: float
    predict: float
    bytes: int


class _Noise(Examples):
    """Examples of the right shapes, cheap to make."""

    def __init__(self, problem: Problem, count: int) -> None:
        self._problem = problem
        self._count = count

    @property
    def problem(self) -> Problem:
        return self._problem

    def __len__(self) -> int:
        return self._count

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        import torch

        size = self._problem.grid.size
        noise = np.random.Generator(np.random.Philox(key=1)).standard_normal((len(ids), size, size), dtype=np.float32)
        field = torch.from_numpy(noise)
        constant = field[:, 0, 0].abs() + 0.5
        inputs = {c.name: field if c.role == "field" else constant for c in self._problem.inputs}
        return inputs, dict.fromkeys(self._problem.output_names, field)


def estimate(plan: Plan, jobs: Sequence[Job], registry: Registry, device: str) -> Estimate:
    """Estimate what ``jobs`` of a plan cost; takes a few steps of the model for each kind of problem."""
    rates: dict[str, _Rates] = {}
    seconds, examples, disk = 0.0, 0, 0
    for job in jobs:
        problem = _problem(plan, job)
        if problem is None:
            continue
        key = str(problem.describe())
        if key not in rates:
            try:
                rates[key] = _measure(plan.model.make(registry), problem, device)
            except Exception as error:  # somebody else's model, or no memory for one of this size
                text = f"{type(error).__name__}: {error}"
                raise RunError(f"{plan.model.name} cannot be tried on a grid of {problem.grid.size}: {text}") from error
        rate = rates[key]
        if job.kind == "point":
            seconds += rate.predict * sum(part["count"] for part in job.description["test"]["sets"])
            disk += rate.bytes if job.description["trials"] else 0
            continue
        passes = training_size(job.description) if rate.direct else trained_examples(job)
        validation = sum(part["count"] for part in job.description["validation"]["sets"])
        epochs = 1 if rate.direct else -(-passes // max(training_size(job.description), 1))
        examples += passes
        seconds += rate.train * passes + rate.predict * validation * epochs
    if jobs and rates:
        disk += 4 * max(rate.bytes for rate in rates.values())  # weights, best weights and Adam's two moments
    return Estimate(examples, seconds, disk)


def _problem(plan: Plan, job: Job) -> Problem | None:
    """The problem the job's model is built for; None where that is only known from the user's weights."""
    start = job.description["start"]
    if "problem" in start:
        return Problem.parse(start["problem"])
    return _problem(plan, plan.jobs[start["job"]]) if "job" in start else None


def _measure(model: OperatorModel, problem: Problem, device: str) -> _Rates:
    data = _Noise(problem, _MICRO_BATCH)
    model.initialise(problem, data, 0)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(Path(folder), device)
        trial = Trial(model.search_space(Budget(None, 1, _MICRO_BATCH, (1e-4,)))[0], 0)
        model.fit(data, _Noise(problem, 1), Budget(None, 1, _MICRO_BATCH, (1e-4,)), trial, context)  # warms up
        start = time.perf_counter()
        report = model.fit(data, _Noise(problem, 1), Budget(None, _STEPS, _MICRO_BATCH, (1e-4,)), trial, context)
        train = (time.perf_counter() - start) / (_MICRO_BATCH * max(report.steps, 1))
        start = time.perf_counter()
        model.predict(problem, data.batch(range(_MICRO_BATCH))[0])
        predict = (time.perf_counter() - start) / _MICRO_BATCH
        saved = Path(folder) / "saved"
        saved.mkdir()
        model.save(saved)
        size = sum(file.stat().st_size for file in saved.rglob("*") if file.is_file())
    return _Rates(report.steps == 0, train, predict, size)
