"""What a plan will cost: training examples, time and disk, from a few steps of the real model on noise."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pdebench_fm._util.text import named
from pdebench_fm.data.open import problem_of
from pdebench_fm.errors import PLUGIN_ERRORS, RunError
from pdebench_fm.interfaces import Budget, Examples, FitContext, Ids, OperatorModel, TrialSettings
from pdebench_fm.plan.job import Job, Point, Trial, count
from pdebench_fm.plan.plan import Plan
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry import Registry

_MICRO_BATCH = 4
_STEPS = 4
_BYTES = 4  # of a weight in float32
_SLOW = 0.5  # seconds: a model whose first step takes longer is judged by it


@dataclass
class Part:
    """One part of a run: pre-training, or one arm. Every job counts once, however many rows share it.

    Args:
        jobs: all jobs of the part.
        reused: those of them that are done.
        trials: fits that are still to be done.
        points: scores that are still to be taken.
        examples: training examples that pass through the model, epochs counted.
        seconds: rough time of what is left, one job after the other.
    """

    jobs: int = 0
    reused: int = 0
    trials: int = 0
    points: int = 0
    examples: int = 0
    seconds: float = 0.0


@dataclass
class Estimate:
    """Cost of what is left of a plan.

    Args:
        parts: by protocol, in the order of the plan; pre-training first.
        bytes: rough disk space of the weights that are kept, resume state included.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    bytes: int = 0

    @property
    def examples(self) -> int:
        """Training examples of all parts."""
        return sum(part.examples for part in self.parts.values())

    @property
    def seconds(self) -> float:
        """Rough time of all parts, one job after the other."""
        return sum(part.seconds for part in self.parts.values())


@dataclass(frozen=True)
class _Rates:
    """Seconds an example."""

    direct: bool
    train: float
    predict: float
    bytes: int


class _Noise(Examples):
    """Examples of the right shapes on a device, cheap to make."""

    def __init__(self, problem: Problem, count: int, device: str) -> None:
        self._problem = problem
        self._count = count
        self._device = device

    @property
    def problem(self) -> Problem:
        return self._problem

    def __len__(self) -> int:
        return self._count

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        import torch

        size = self._problem.grid.size
        noise = np.random.Generator(np.random.Philox(key=1)).standard_normal((len(ids), size, size), dtype=np.float32)
        field = torch.from_numpy(noise).to(self._device)
        constant = field[:, 0, 0].abs() + 0.5
        inputs = {c.name: field if c.role == "field" else constant for c in self._problem.inputs}
        return inputs, dict.fromkeys(self._problem.output_names, field)


def estimate(plan: Plan, left: Mapping[str, Job], registry: Registry, device: str) -> Estimate:
    """Estimate what is left of a plan; takes a few steps of the model for each kind of problem.

    Validation is counted in full, every epoch; a loop that sees earlier which epoch has lost takes less. Making the
    examples is not counted.

    Args:
        plan: its jobs are sorted into parts.
        left: those of its jobs that still have to be done, by id.
        registry: where the model comes from.
        device: torch device.

    Raises:
        RunError: the model cannot be tried.
    """
    rates: dict[str, _Rates] = {}
    cost = Estimate()
    for job in sorted(plan.jobs.values(), key=lambda job: job.protocol is not None):
        part = cost.parts.setdefault(job.arm, Part())
        part.jobs += 1
        if job.id not in left:
            part.reused += 1
            continue
        if isinstance(job, Trial):
            part.trials += 1
        else:
            part.points += 1
        problem = _problem(plan, job, registry)
        key = str(problem.describe())
        if key not in rates:
            try:
                rates[key] = _measure(plan.model.make(registry), problem, device)
            except PLUGIN_ERRORS as error:  # of the model, or no memory for one of this size
                what = f"{plan.model.name} cannot be tried on a grid of {problem.grid.size}"
                raise RunError(f"{what}: {named(error)}") from error
        _count(job, part, rates[key])
        if isinstance(job, Point) and job.trials:
            cost.bytes += rates[key].bytes
    if rates:
        cost.bytes += 4 * max(rate.bytes for rate in rates.values())  # weights, best weights, Adam's two moments
    return cost


def _count(job: Job, part: Part, rate: _Rates) -> None:
    """Add the cost of one job to its part."""
    if isinstance(job, Point):
        part.seconds += rate.predict * count(job.test)
        return
    assert isinstance(job, Trial)
    passes = job.examples if rate.direct else job.passes
    epochs = 1 if rate.direct else -(-passes // max(job.examples, 1))
    part.examples += passes
    part.seconds += rate.train * passes + rate.predict * count(job.validation) * epochs


def _problem(plan: Plan, job: Job, registry: Registry) -> Problem:
    """The problem the job's model is built for; the task's own where only the user's weights know it."""
    if job.start.problem is not None:
        return job.start.problem
    if job.start.job is not None:
        return _problem(plan, plan.jobs[job.start.job], registry)
    return problem_of(job.train[0], registry)


def _measure(model: OperatorModel, problem: Problem, device: str) -> _Rates:
    data, one = _Noise(problem, _MICRO_BATCH, device), _Noise(problem, 1, device)
    model.initialise(problem, data, 0)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(Path(folder), device)
        trial = TrialSettings(model.search_space((1e-4,))[0], 0)
        for steps in (1, _STEPS):  # the first one warms up
            start = _now(device)
            report = model.fit(data, one, Budget(None, steps, _MICRO_BATCH), trial, context)
            seconds = _now(device) - start
            if seconds > _SLOW:
                break
        train = seconds / (_MICRO_BATCH * max(report.steps, 1))
        start = _now(device)
        model.predict(problem, data.batch(range(_MICRO_BATCH))[0])
        predict = (_now(device) - start) / _MICRO_BATCH
    return _Rates(report.steps == 0, train, predict, _BYTES * model.parameters)


def _now(device: str) -> float:
    """Seconds, once all that the device was asked to do is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
