"""How one job is carried out: fit a trial, or score a point."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from pdebench_fm._util import logs
from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm._util.text import one_line, printable, quoted, reason_of
from pdebench_fm.data.combine import NoExamples, Subset
from pdebench_fm.data.hashing import hash_of
from pdebench_fm.data.open import SetCache, few_shot_ids
from pdebench_fm.errors import PLUGIN_ERRORS, DataFileError, DivergedError, PdefmError, RunError, UnsupportedError
from pdebench_fm.interfaces import Examples, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.job import Job, Point, Trial
from pdebench_fm.plan.model import Weights, check_code
from pdebench_fm.plan.store import UNSUPPORTED, JobStore, check_weights
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import located
from pdebench_fm.registry.loading import to_standard_error
from pdebench_fm.run.distributed import World, device_of_rank, join_world, started_by_torchrun
from pdebench_fm.run.progress import ProgressFile
from pdebench_fm.run.provenance import device_name, provenance, source_commit
from pdebench_fm.scoring.cost import measure_cost
from pdebench_fm.scoring.point import choose, load_metrics, measure, validation_error
from pdebench_fm.scoring.probes import probe

_LOG = logging.getLogger("pdebench_fm.run")
_DAMAGED = (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError)
"""What reading a damaged file of weights may raise."""
_PROCESS = uuid4().hex


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: ``ok``, ``diverged``, ``failed`` or ``unsupported``; the first two are final, others are tried again.
        result: what ``result.json`` holds; empty if the job failed.
        reason: one line if the status is not ``ok``.
        reused: whether the work had been done before.
    """

    status: str
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Work:
    """A job and all it takes to do it in any process.

    Args:
        job: what to do.
        related: the jobs it reads the results of, by id, and theirs.
        trials: ids of the trials a point chooses among: its own, and those that the run added.
    """

    job: Job
    related: Mapping[str, Job]
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What all jobs of a run share.

    Args:
        key: tells this run from others in the same process.
        registry: provides models, protocols, systems, samplers and metrics.
        store: the folders of jobs.
        device: torch device.
        weights: the user's own weights in place of a pre-training.
        world: the processes that fit each trial together.
        process: which process made the run.
    """

    key: str
    registry: Registry
    store: JobStore
    device: str
    weights: Weights | None = None
    world: World = field(default_factory=World)
    process: str = field(default_factory=lambda: _PROCESS)


@to_standard_error()
def carry_out(setting: Setting, work: Work) -> Outcome:
    """Do a job in whatever process this is called; each process makes one `Worker` a run."""
    if setting.key not in _WORKERS:
        _WORKERS.clear()
        if setting.world.size == 1 and started_by_torchrun():  # on a cluster: the run itself is no rank
            world = join_world(setting.device)
            setting = replace(setting, world=world, device=device_of_rank(setting.device, world.local_rank))
        _WORKERS[setting.key] = Worker(setting)
    return _WORKERS[setting.key].do(work)


_WORKERS: dict[str, Worker] = {}


class Worker:
    """Carries out the jobs of one run in this process."""

    def __init__(self, setting: Setting) -> None:
        if setting.process != _PROCESS:
            logs.set_up()
            check_code(setting.registry)
        self._setting = setting
        self._registry = setting.registry
        self._store = setting.store
        self._device = setting.device
        self._world = setting.world
        self._sets = SetCache(setting.registry, setting.device)
        self._metrics = load_metrics(setting.registry)
        _prepare_process()

    def do(self, work: Work) -> Outcome:
        """Do the job, or find it done. What goes wrong inside is part of the outcome, with a log beside it."""
        job = work.job
        found = self._finished(job)  # a finished run may be on a folder that cannot be written
        if found is not None:
            return Outcome(found["status"], found, found["reason"], reused=True)
        with self._lock(job.id):
            if self._world.is_main:
                self._store.set_aside_damaged(job.id)
            found = self._finished(job)  # another run may have done it meanwhile
            if found is not None:
                return Outcome(found["status"], found, found["reason"], reused=True)
            progress = ProgressFile(self._store.folder(job.id))
            try:
                self._begin(job, progress)
                outcome = self._outcome(work, progress)
                if outcome.result and self._world.is_main:
                    outcome = replace(outcome, result={**outcome.result, **provenance(self._device, self._registry)})
                    self._store.end(job, outcome.result)
                return outcome
            except PLUGIN_ERRORS as error:  # the other jobs go on
                _LOG.debug("%s failed", job.label, exc_info=True)
                failed = self._failure(job, error)
                if self._world.size > 1:  # the other ranks wait for this one, in the middle of a step
                    raise RunError(quoted(f"{job.label}: process {self._world.rank}: {failed.reason}")) from error
                return failed
            finally:
                if self._world.is_main:
                    progress.end()

    def _failure(self, job: Job, error: BaseException) -> Outcome:
        """Keep what went wrong, and return the outcome that says so."""
        self._store.log_failure(job, error, self._world.rank)
        status = "unsupported" if isinstance(error, UnsupportedError) else "failed"
        return Outcome(status, reason=quoted(located(error)))

    def _lock(self, job_id: str) -> AbstractContextManager[Any]:
        return self._store.lock(job_id) if self._world.is_main else nullcontext()

    def _finished(self, job: Job) -> dict[str, Any] | None:
        """Return the result of a job that is done; all ranks do what rank 0 finds."""
        found = self._store.finished(job, self._metrics.scored_with()) if self._world.is_main else None
        return self._world.from_main(found)

    def _begin(self, job: Job, progress: ProgressFile) -> None:
        if self._world.is_main:
            self._store.begin(job)
            progress.begin()

    def _outcome(self, work: Work, progress: ProgressFile) -> Outcome:
        try:
            if isinstance(work.job, Trial):
                return self._fit(work.job, work.related, progress.report)
            assert isinstance(work.job, Point)
            # One process scores; the others wait for the next job.
            return self._score(work.job, work) if self._world.is_main else Outcome("ok")
        except DivergedError as error:
            summary = _summary(FitReport("diverged", str(error)))
            return Outcome("diverged", {**summary, "validation": None, "chosen": None}, summary["reason"])

    # Fit a trial -----------------------------------------------------------------------------------------------------

    def _fit(self, trial: Trial, related: Mapping[str, Job], progress: Callable[[Progress], None]) -> Outcome:
        """Start from what the trial starts from, fit, judge by the validation examples, keep the weights."""
        train, validation = self._training_set(trial), self._sets.joined(trial.validation)
        model = self._wrapped(trial, self._started(trial, train, related))

        report = self._fitted(trial, model, train, validation, progress)
        result = {**_summary(report), "validation": None, "parameters": model.parameters, "notes": _notes(model)}
        if not self._world.is_main:
            return Outcome(report.status, result, result["reason"])

        if report.status == "ok":
            sets = [self._sets.open(spec) for spec in trial.validation]
            error = validation_error(model, sets, self._metrics)
            if np.isfinite(error):
                result["validation"] = error
                self._store.keep_model(trial, model)
            else:
                result |= {"status": "diverged", "reason": f"validation {SCORE} is not finite"}
        self._store.write_history(trial, report.history)
        return Outcome(result["status"], result, result["reason"])

    def _fitted(
        self,
        trial: Trial,
        model: OperatorModel,
        train: Examples,
        validation: Examples,
        progress: Callable[[Progress], None],
    ) -> FitReport:
        """Fit the model of a trial with the means of its protocol; a pre-training has none."""
        workspace = self._store.workspace(trial.id)
        workspace.mkdir(parents=True, exist_ok=True)
        settings = TrialSettings(trial.hyperparameters, trial.seed)
        context = FitContext(
            workspace,
            self._device,
            trial.precision,
            progress if self._world.is_main else lambda progress: None,
            self._world.rank,
            self._world.size,
        )
        if trial.protocol is None:
            report = model.fit(train, validation, trial.budget, settings, context)
        else:
            protocol = trial.protocol.make(self._registry)
            report = protocol.adapt(model, train, validation, trial.budget, settings, context)
        if not isinstance(report, FitReport):
            raise TypeError(f"fit and adapt must return a FitReport, got {type(report).__name__}")
        if report.status == "ok" and settings.ignored:
            raise RunError(settings.ignored)
        return report

    def _started(self, job: Job, train: Examples, related: Mapping[str, Job]) -> OperatorModel:
        """Return the model as the job finds it: initialised, released, the user's, or pre-trained."""
        start = job.start
        if start.source in ("initialised", "released"):
            assert start.problem is not None
            model = job.model.make(self._registry)
            ready = model.release if start.source == "released" else model.initialise
            ready(start.problem, train, job.seed)
            return model
        if start.source == "weights":
            assert self._setting.weights is not None
            path = Path(self._setting.weights.path)
            if hash_of(path) != start.sha256:
                raise DataFileError(f"{path}: the weights have changed since the run was planned")
            model = job.model.make(self._registry)
            model.load(path, self._device)
            return model
        assert start.job is not None
        pretraining = self._store.result(start.job)
        if pretraining is None:
            raise self._failed_before("its pre-training failed", start.job, related)
        if pretraining["status"] != "ok":
            raise DivergedError(f"its pre-training diverged: {pretraining['reason']}")
        return self._chosen_model(pretraining["chosen"], related)

    def _wrapped(self, job: Job, model: OperatorModel) -> OperatorModel:
        """Put around a model what the protocol of the job puts around it."""
        return model if job.protocol is None else job.protocol.make(self._registry).wrap(model)

    def _training_set(self, job: Job) -> Examples:
        """Return the examples the job's model is initialised on and fitted to."""
        few_shot = job.few_shot
        if few_shot is None:
            return self._sets.joined(job.train)
        (pool,) = map(self._sets.open, job.train)
        if few_shot.examples == 0:
            return NoExamples(job.start.problem or pool.examples.problem)
        ids = few_shot_ids(len(pool.examples), few_shot.examples, few_shot.seed, pool.period)
        return Subset(pool.examples, ids)

    # Score a point ---------------------------------------------------------------------------------------------------

    def _score(self, point: Point, work: Work) -> Outcome:
        """Choose a trial by validation error, load its model, and measure it once on the test set."""
        trials = self._results(work)
        if isinstance(trials, Outcome):
            return trials
        chosen = choose(trials)
        if chosen is None:  # nothing was fitted: zero-shot, or an untrained network
            model = self._wrapped(point, self._started(point, self._training_set(point), work.related))
        else:
            model = self._chosen_model(chosen, work.related)

        sets = [self._sets.open(spec) for spec in point.test]
        measured = measure(model, sets, self._metrics)
        rise, not_taken = probe(model, sets, self._metrics.made[SCORE], measured.errors, self._store.folder(point.id))
        where = f"{device_name(self._device)}, threads: {torch.get_num_threads()}"
        cost, not_measured = measure_cost(model, sets[0], self._device, where)
        left_out = {**self._metrics.left_out, **measured.left_out, **not_taken, **not_measured}
        own = {"pretrained weights": point.start.sha256} if point.start.sha256 is not None else {}

        result = {
            "status": "ok",
            "reason": "",
            "chosen": chosen,
            "trials": list(work.trials),
            "metrics": measured.scores,
            "coefficient_rise": rise,
            "interval": measured.intervals,
            "errors_sha256": self._store.keep_errors(point, measured.errors),
            "test_examples": sum(len(opened.examples) for opened in sets),
            "parameters": model.parameters,
            **asdict(cost),
            "notes": {**_notes(model), **own, **left_out},
            "scored_with": self._metrics.scored_with(),
        }
        for loser in trials.keys() - {chosen}:  # their scores are kept; their weights are not needed again
            self._store.clear_model(loser)
        return Outcome("ok", result)

    def _results(self, work: Work) -> dict[str, dict[str, Any]] | Outcome:
        """Return the results of a point's trials; the point fails if one is missing.

        With fewer trials than the others, this arm would be tuned on a smaller budget. If all of them found that the
        model cannot be adapted in this way, the point is unsupported.
        """
        found = {id: self._store.result(id) for id in work.trials}
        missing = [id for id, result in found.items() if result is None]
        if missing:
            first = min(missing, key=lambda id: self._store.failure(id).startswith(UNSUPPORTED))
            what = f"{len(missing)} of {len(found)} trials failed: {work.related[first].label}"
            return self._failure(work.job, self._failed_before(what, first, work.related))
        return {id: result for id, result in found.items() if result is not None}

    def _failed_before(self, what: str, job_id: str, related: Mapping[str, Job]) -> PdefmError:
        """Return the error of a job that needs one which failed: with its reason, and the log of the first to fail."""
        reason = self._store.failure(job_id)
        error: PdefmError = RunError(f"{what}: {reason}")
        if reason.startswith(UNSUPPORTED):
            error = UnsupportedError(reason.removeprefix(UNSUPPORTED))
        while lost := [parent for parent in related[job_id].parents if self._store.result(parent) is None]:
            job_id = lost[0]
        error.add_note(f"The first to fail was {related[job_id].label}: see {self._store.log(job_id)}")
        return error

    def _chosen_model(self, trial_id: str, related: Mapping[str, Job]) -> OperatorModel:
        """Load the weights of a trial; fit it again if they were deleted or are damaged."""
        trial = related[trial_id]
        assert isinstance(trial, Trial)
        try:
            return self._loaded(trial)
        except (DataFileError, *_DAMAGED) as error:
            if self._store.model(trial.id).exists():
                _LOG.warning("%s: %s; fitted again", trial.label, reason_of(error))
            if not self._world.is_main:
                raise RunError(
                    f"{trial.label}: cannot read its weights; every node must see the same --output"
                ) from None
        alone = self if self._world.size == 1 else Worker(replace(self._setting, key="", world=World()))
        with self._store.lock(trial.id):
            alone._fit(trial, related, lambda progress: None)
            self._store.clear_workspace(trial.id)
            return self._loaded(trial)

    def _loaded(self, trial: Trial) -> OperatorModel:
        folder = self._store.model(trial.id)
        if not folder.exists():
            raise DataFileError(f"{folder}: no weights")
        check_weights(folder)
        model = self._wrapped(trial, trial.model.make(self._registry))
        model.load(folder, self._device)
        return model


@cache
def _prepare_process() -> None:
    """Once a process: keep freed memory, and note the commit now, since what is committed later was not loaded."""
    keep_freed_memory()
    source_commit()
    # Plugins that draw without seeding must not draw the same numbers in two workers.
    np.random.seed()
    torch.default_generator.seed()


def _notes(model: OperatorModel) -> dict[str, str]:
    """Return the notes of a model in the form that a record takes."""
    return {printable(one_line(name)) or "note": quoted(text) for name, text in model.notes().items()}


def _summary(report: FitReport) -> dict[str, Any]:
    summary = asdict(report)
    del summary["history"]
    summary["reason"] = quoted(report.reason) or ("no reason given" if report.status != "ok" else "")
    return summary
