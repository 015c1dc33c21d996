"""What a record states that its plan, the samplers or the model can compute again without training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache

from pdebench_fm.data.open import problem_of
from pdebench_fm.errors import PLUGIN_ERRORS
from pdebench_fm.plan.estimate import problem_of_job
from pdebench_fm.plan.job import PRETRAINING, Point, count
from pdebench_fm.plan.plan import Plan, PlannedRow
from pdebench_fm.plan.search import with_value
from pdebench_fm.problem import Problem
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, ZERO_SHOT
from pdebench_fm.records.record import Record
from pdebench_fm.scoring.cost import count_network
from pdebench_fm.scoring.shift import RealisedShift
from pdebench_fm.training import NetworkModel
from pdebench_fm.training.calling import count_parameters, without_memory

_WHOLE = (PRETRAINING, ZERO_SHOT, FINE_TUNE, SCRATCH)
"""Arms that fit all weights of a network. Others may wrap it, and have as many parameters as they like."""
_AGREE = 1e-6
_FLOPS_AGREE = 0.01
"""Versions of torch and devices split some operations differently."""


class Recomputed:
    """Compares records with one plan; what several records share is computed once.

    Args:
        shift: measures overlaps, and remembers what samplers drew; plans can share it.
    """

    def __init__(self, plan: Plan, shift: RealisedShift) -> None:
        self.plan = plan
        self.rows = {row.place: row for row in plan.rows}
        self._shift = shift
        self._parameters = cache(self._count_parameters)
        self._operations = cache(self._count_operations)

    def of_any_model(self, record: Record, row: PlannedRow) -> Iterator[str]:
        """Yield what differs although it does not depend on the model."""
        if row.job.trials and record.trials:
            trial = self.plan.trial(row.job.trials[0])
            stated = record.budget
            if stated is not None and stated.model_dump() != asdict(trial.budget):
                yield f"budget: must be {_filled(asdict(trial.budget))}, got {_filled(stated.model_dump())}"
            if record.validation_examples not in (None, count(trial.validation)):
                yield f"validation_examples: must be {count(trial.validation)}, got {record.validation_examples}"
        pair = self.plan.pairs.get(record.task) if record.kind == "point" else None
        planned = None if pair is None else self._shift.of_pair(pair)
        if record.overlap is not None and planned is not None and not _close(record.overlap, planned):
            yield f"overlap: must be {planned:.6g}, as its examples have, got {record.overlap:.6g}"

    def of_this_model(self, record: Record, row: PlannedRow) -> Iterator[str]:
        """Yield what differs for the model that was planned."""
        for number, trial in enumerate(record.trials):
            planned = self._hyperparameters(row.job, number, trial.job_id)
            if planned is not None and planned != trial.hyperparameters:
                yield f"trials.{number}.hyperparameters: must be {planned}, got {trial.hyperparameters}"
        if (wrong := self._wrongly_added(record, row.job)) is not None:
            yield f"trials: {wrong[:12]}… is not the trial that its search adds"
        if record.status == "ok" and record.protocol in _WHOLE:
            built = problem_of_job(self.plan, row.job)
            expected = self._parameters(built)
            if expected is not None and record.parameters != expected:
                yield f"parameters: must be {expected}, got {record.parameters}"
            if record.flops is None:
                return
            flops = self._operations(built, problem_of(row.job.test[0], self.plan.registry))
            if flops and not math.isclose(record.flops, flops, rel_tol=_FLOPS_AGREE):
                yield f"flops: must be {flops}, got {record.flops}"

    def _hyperparameters(self, point: Point, number: int, job_id: str) -> dict[str, float] | None:
        if number >= len(point.trials) or point.trials[number] != job_id:
            return None
        return dict(self.plan.trial(job_id).hyperparameters)

    def _wrongly_added(self, record: Record, point: Point) -> str | None:
        """Return the id of a trial that was added to a point and is not what its hyperparameters say."""
        for trial in record.trials[len(point.trials) :]:
            expected = with_value(self.plan.trial(point.trials[0]), point, trial.hyperparameters).id
            if expected != trial.job_id:
                return trial.job_id
        return None

    def _count_parameters(self, problem: Problem) -> int | None:
        """Count the weights of a network on the meta device; None if the model is no network, or needs data."""
        try:
            model = self.plan.model.make(self.plan.registry)
            if not isinstance(model, NetworkModel):
                return None
            return count_parameters(without_memory(model.build, problem))
        except PLUGIN_ERRORS:  # a network that wants real tensors
            return None

    def _count_operations(self, built: Problem, asked: Problem) -> int | None:
        """Count the operations of a prediction; None if the model is no network, or needs data."""
        try:
            model = self.plan.model.make(self.plan.registry)
            return count_network(model, built, asked) if isinstance(model, NetworkModel) else None
        except Exception:  # a network that wants real tensors
            return None


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_AGREE, abs_tol=_AGREE)


def _filled(values: dict[str, int | None]) -> str:
    return str({name: value for name, value in values.items() if value is not None})
