"""Where a job gets its model from: what it starts with, and what a trial has fitted."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

from pdebench_fm._util.text import reason_of
from pdebench_fm.data.combine import NoExamples, Subset
from pdebench_fm.data.hashing import hash_of
from pdebench_fm.data.open import SetCache, few_shot_ids
from pdebench_fm.errors import DataFileError, DivergedError, PdefmError, RunError, UnsupportedError
from pdebench_fm.interfaces import Examples, OperatorModel
from pdebench_fm.plan.job import Job, Trial
from pdebench_fm.plan.store import UNSUPPORTED, JobStore, check_weights
from pdebench_fm.run.work import Setting

_LOG = logging.getLogger("pdebench_fm.run")
_DAMAGED = (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError)
"""What reading a damaged file of weights may raise."""

Related = Mapping[str, Job]
"""The jobs that a job reads the results of, by id, and theirs."""


class Models:
    """Makes and loads the models of a run's jobs.

    Args:
        refit: fits a trial again whose weights are gone.
    """

    def __init__(self, setting: Setting, sets: SetCache, refit: Callable[[Trial, Related], None]) -> None:
        self._setting = setting
        self._registry = setting.registry
        self._store = setting.store
        self._sets = sets
        self._refit = refit

    def training_set(self, job: Job) -> Examples:
        """Return the examples that the job's model is initialised on and fitted to."""
        few_shot = job.few_shot
        if few_shot is None:
            return self._sets.joined(job.train)
        (pool,) = map(self._sets.open, job.train)
        if few_shot.examples == 0:
            return NoExamples(job.start.problem or pool.examples.problem)
        ids = few_shot_ids(len(pool.examples), few_shot.examples, few_shot.seed, pool.period)
        return Subset(pool.examples, ids)

    def start(self, job: Job, train: Examples, related: Related) -> OperatorModel:
        """Return the model as the job finds it, with what its protocol puts around it."""
        start = job.start
        if start.source == "pretrained":
            return self._wrapped(job, self._pretrained(job, related))
        model = job.model.make(self._registry)
        if start.source == "weights":
            assert self._setting.weights is not None
            path = Path(self._setting.weights.path)
            if hash_of(path) != start.sha256:
                raise DataFileError(f"{path}: the weights have changed since the run was planned")
            model.load(path, self._setting.device)
        else:
            assert start.problem is not None
            ready = model.release if start.source == "released" else model.initialise
            ready(start.problem, train, job.seed)
        return self._wrapped(job, model)

    def fitted(self, trial_id: str, related: Related) -> OperatorModel:
        """Load the weights of a trial; fit it again if they were deleted or are damaged."""
        trial = related[trial_id]
        assert isinstance(trial, Trial)
        try:
            return self._loaded(trial)
        except (DataFileError, *_DAMAGED) as error:
            if self._store.model(trial.id).exists():
                _LOG.warning("%s: %s; fitted again", trial.label, reason_of(error))
            if not self._setting.world.is_main:
                raise RunError(
                    f"{trial.label}: cannot read its weights; every node must see the same --output"
                ) from None
        with self._store.lock(trial.id):
            self._refit(trial, related)
            self._store.clear_workspace(trial.id)
            return self._loaded(trial)

    def _pretrained(self, job: Job, related: Related) -> OperatorModel:
        assert job.start.job is not None
        pretraining = self._store.result(job.start.job)
        if pretraining is None:
            raise failed_before("its pre-training failed", job.start.job, related, self._store)
        if pretraining["status"] != "ok":
            raise DivergedError(f"its pre-training diverged: {pretraining['reason']}")
        return self.fitted(pretraining["chosen"], related)

    def _loaded(self, trial: Trial) -> OperatorModel:
        folder = self._store.model(trial.id)
        if not folder.exists():
            raise DataFileError(f"{folder}: no weights")
        check_weights(folder)
        model = self._wrapped(trial, trial.model.make(self._registry))
        model.load(folder, self._setting.device)
        return model

    def _wrapped(self, job: Job, model: OperatorModel) -> OperatorModel:
        return model if job.protocol is None else job.protocol.make(self._registry).wrap(model)


def failed_before(what: str, job_id: str, related: Related, store: JobStore) -> PdefmError:
    """Return the error of a job that needs one which failed: with its reason, and the log of the first to fail."""
    reason = store.failure(job_id)
    error: PdefmError = RunError(f"{what}: {reason}")
    if reason.startswith(UNSUPPORTED):
        error = UnsupportedError(reason.removeprefix(UNSUPPORTED))
    while lost := [parent for parent in related[job_id].parents if store.result(parent) is None]:
        job_id = lost[0]
    error.add_note(f"The first to fail was {related[job_id].label}: see {store.log(job_id)}")
    return error
