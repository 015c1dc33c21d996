"""What a plan will cost: training examples, time and disk."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pdebench_fm._util.text import named
from pdebench_fm._util.timing import now
from pdebench_fm.data.open import problem_of
from pdebench_fm.errors import PLUGIN_ERRORS, RunError, UsageError
from pdebench_fm.interfaces import Budget, Examples, FitContext, Ids, OperatorModel, TrialSettings
from pdebench_fm.plan.arithmetic import count_step, measure_machine
from pdebench_fm.plan.gpus import LAUNCH, SHARE, Gpu
from pdebench_fm.plan.job import Job, Point, Trial, count
from pdebench_fm.plan.plan import Plan
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry.loading import to_standard_error
from pdebench_fm.training import NetworkModel

_LOG = logging.getLogger("pdebench_fm.plan")
_BATCH = 16
"""Examples of the step that is counted."""
_STEP = 3
"""Predictions that take as long as a training step."""
_FEW = 4
"""Examples of the step that is timed."""
_FLOAT = 4
"""Bytes of a weight."""
_ADAM = 7
"""How often a step of Adam reads or writes as much as the weights: these, gradients and two moments."""
_OF_A_TRIAL, _OF_A_POINT, _OF_WEIGHTS = 5, 6, 3
"""Files of a job with its folder, and of the weights that one trial of a point keeps, if it is a network."""
_TEXTS, _RECORD, _EPOCH, _SAMPLES = 4000, 5000, 85, 9
"""Bytes of job.json with result.json, of a record, of an epoch's line in history.jsonl; fields in samples.npz."""
_SLOW = 0.5
"""Seconds: a model whose first step takes longer is judged by it."""


@dataclass
class Part:
    """One part of a run: pre-training, or one arm. Every job counts once, however many rows share it.

    Args:
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
        bytes: rough disk space of what is written: mostly weights that are kept, resume state included.
        files: number of files in the folders of jobs, and of these folders.
        of_jobs: rough seconds of each job, by id.
    """

    parts: dict[str, Part] = field(default_factory=dict)
    bytes: int = 0
    files: int = 0
    of_jobs: dict[str, float] = field(default_factory=dict)

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
    """Seconds that work takes.

    Args:
        example: to train on one example.
        predict: to predict one example.
        bytes: size of the weights.
        direct: whether a fit is one pass, however long the budget.
        step: to train on no example: weights are read, and the optimiser writes them.
        least: that a step takes, however few its examples.
    """

    example: float
    predict: float
    bytes: int
    direct: bool = False
    step: float = 0.0
    least: float = 0.0

    def trial(self, trial: Trial) -> float:
        """Return the seconds of a fit."""
        passes, epochs = self.passes(trial), 1.0
        batch = max(1, min(trial.budget.batch_size, trial.examples))
        if not self.direct:
            epochs = -(-passes // max(trial.examples, 1))
        steps = passes / batch * max(self.example * batch + self.step, self.least)
        return steps + self.predict * count(trial.validation) * epochs

    def passes(self, trial: Trial) -> int:
        """Return the examples that pass through the model in a fit."""
        return trial.examples if self.direct else trial.passes


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
        size = self._problem.grid.size
        noise = np.random.Generator(np.random.Philox(key=1)).standard_normal((len(ids), size, size), dtype=np.float32)
        field = torch.from_numpy(noise).to(self._device)
        constant = field[:, 0, 0].abs() + 0.5
        inputs = {c.name: field if c.role == "field" else constant for c in self._problem.inputs}
        return inputs, dict.fromkeys(self._problem.output_names, field)


@to_standard_error()
def estimate(plan: Plan, left: Collection[str], gpu: Gpu | None = None) -> Estimate:
    """Estimate what is left of a plan, without training: in about a second, whatever the size of a network.

    The operations of a network are counted; any other model is timed on a few examples. Making the examples is not
    counted.

    Args:
        left: ids of the jobs that still have to be done.
        gpu: where they would run, by its data sheet; by default the device of the plan, which is measured.
    """
    rates: dict[str, _Rates] = {}
    cost = Estimate()
    for job in sorted(plan.jobs.values(), key=lambda job: job.protocol is not None):
        part = cost.parts.setdefault(job.arm, Part())
        part.jobs += 1
        if job.id not in left:
            part.reused += 1
            continue
        problem = problem_of_job(plan, job)
        key = str(problem.describe())
        if key not in rates:
            rates[key] = _rates(plan, problem) if gpu is None else _on_paper(plan, problem, gpu)
        rate = rates[key]
        if isinstance(job, Trial):
            seconds = rate.trial(job)
            part.trials += 1
            part.examples += rate.passes(job)
            cost.files += _OF_A_TRIAL
            cost.bytes += _TEXTS + _EPOCH * (job.budget.epochs or 0)
        else:
            assert isinstance(job, Point)
            seconds = rate.predict * count(job.test)
            part.points += 1
            cost.files += _OF_A_POINT + (_OF_WEIGHTS if job.trials else 0)
            cost.bytes += _TEXTS + _RECORD + _FLOAT * (count(job.test) + _SAMPLES * problem.grid.size**2)
            cost.bytes += rate.bytes if job.trials else 0
        part.seconds += seconds
        cost.of_jobs[job.id] = seconds
    if rates:
        cost.bytes += 4 * max(rate.bytes for rate in rates.values())  # weights, best weights, Adam's two moments
    return cost


def problem_of_job(plan: Plan, job: Job) -> Problem:
    """Return the problem a job's model is built for; the task's own if only the user's weights know it."""
    if job.start.problem is not None:
        return job.start.problem
    if job.start.job is not None:
        return problem_of_job(plan, plan.jobs[job.start.job])
    return problem_of(job.train[0], plan.registry)


def _rates(plan: Plan, problem: Problem) -> _Rates:
    """Count the operations of a network; time a model that is none, or whose network needs data."""
    try:
        model = plan.model.make(plan.registry)
        if isinstance(model, NetworkModel):
            try:
                return _counted(model, problem, plan.device)
            except Exception:
                _LOG.debug("%s cannot be counted, so it is timed", plan.model.name, exc_info=True)
        return _timed(model, problem, plan.device)
    except PLUGIN_ERRORS as error:  # or no memory for a model of this size
        what = f"{plan.model.name} cannot be tried on a grid of {problem.grid.size}"
        raise RunError(f"{what}: {named(error)}") from error


def _counted(model: NetworkModel, problem: Problem, device: str) -> _Rates:
    step, size = count_step(model.build, problem, _BATCH)
    seconds = step.seconds(measure_machine(device)) / _BATCH
    return _Rates(seconds, seconds / _STEP, size)


def _on_paper(plan: Plan, problem: Problem, gpu: Gpu) -> _Rates:
    """Return the time of the slower of memory and arithmetic, at a share of the rates of a data sheet."""
    model = plan.model.make(plan.registry)
    try:
        if not isinstance(model, NetworkModel):
            raise TypeError("it is no network")
        count_step(model.build, problem, _BATCH)  # what a network makes once and keeps is no part of a step
        (less, size), (more, _) = (count_step(model.build, problem, batch) for batch in (_BATCH, 2 * _BATCH))
    except PLUGIN_ERRORS as error:
        what = f"--device {gpu.name}: the operations of {plan.model.name} cannot be counted"
        raise UsageError(f"{what}: {named(error)}") from error
    bytes, flops = (more.bytes - less.bytes) / _BATCH, (more.flops - less.flops) / _BATCH
    example = max(bytes / gpu.bytes, flops / gpu.flops) / SHARE
    weights = max(0, 2 * less.bytes - more.bytes) + _ADAM * size
    return _Rates(example, example / _STEP, size, step=weights / gpu.bytes / SHARE, least=less.calls * LAUNCH)


def _timed(model: OperatorModel, problem: Problem, device: str) -> _Rates:
    """Time a step and a prediction."""
    data, one = _Noise(problem, _FEW, device), _Noise(problem, 1, device)
    model.initialise(problem, data, 0)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(Path(folder), device)
        trial = TrialSettings(model.search_space((1e-4,))[0], 0)
        for _ in range(2):  # the first one warms up
            start = now(device)
            report = model.fit(data, one, Budget(None, 1, _FEW), trial, context)
            seconds = now(device) - start
            if seconds > _SLOW:
                break
        start = now(device)
        model.predict(problem, data.batch(range(_FEW))[0])
        predict = now(device) - start
    return _Rates(seconds / _FEW, predict / _FEW, _FLOAT * model.parameters, direct=report.steps == 0)
