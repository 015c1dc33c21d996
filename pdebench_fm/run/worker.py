"""How one job is carried out: fit a trial, or score a point."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cache
from operator import index
from typing import Any

import numpy as np
import torch

from pdebench_fm._util import logs
from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm._util.text import one_line, printable, quoted
from pdebench_fm.data.open import SetCache
from pdebench_fm.errors import PLUGIN_ERRORS, DivergedError, RunError, UnsupportedError
from pdebench_fm.interfaces import Examples, FitContext, FitReport, OperatorModel, Progress, TrialSettings
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.job import Job, Point, Trial
from pdebench_fm.plan.model import check_code
from pdebench_fm.plan.store import UNSUPPORTED
from pdebench_fm.registry.calling import located
from pdebench_fm.registry.loading import to_standard_error
from pdebench_fm.run.distributed import World, device_of_rank, join_world, started_by_torchrun
from pdebench_fm.run.models import Models, Related, failed_before
from pdebench_fm.run.progress import ProgressFile
from pdebench_fm.run.provenance import device_name, provenance, source_commit
from pdebench_fm.run.work import THIS_PROCESS, Outcome, Setting, Work
from pdebench_fm.scoring.cost import measure_cost
from pdebench_fm.scoring.point import choose, load_metrics, measure, validation_error
from pdebench_fm.scoring.probes import probe

_LOG = logging.getLogger("pdebench_fm.run")


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
        if setting.process != THIS_PROCESS:
            logs.set_up()
            check_code(setting.registry)
        self._setting = setting
        self._registry = setting.registry
        self._store = setting.store
        self._device = setting.device
        self._world = setting.world
        self._sets = SetCache(setting.registry, setting.device)
        self._models = Models(setting, self._sets, self._fit_again)
        self._metrics = load_metrics(setting.registry)
        _prepare_process()

    def do(self, work: Work) -> Outcome:
        """Do the job, or find it done. What goes wrong inside is part of the outcome, with a log beside it."""
        found = self._found_done(work.job)  # a finished run may be on a folder that cannot be written
        if found is not None:
            return found
        with self._store.lock(work.job.id) if self._world.is_main else nullcontext():
            if self._world.is_main:
                self._store.set_aside_damaged(work.job.id)
            # Another run may have done it while this one waited for the lock.
            return self._found_done(work.job) or self._done_now(work)

    def _found_done(self, job: Job) -> Outcome | None:
        """Return the outcome of a job that was done before; all ranks do what rank 0 finds."""
        found = self._store.finished(job, self._metrics.scored_with()) if self._world.is_main else None
        found = self._world.from_main(found)
        return None if found is None else Outcome.before(found)

    def _done_now(self, work: Work) -> Outcome:
        """Do the job; rank 0 keeps what came of it."""
        job, progress = work.job, ProgressFile(self._store.folder(work.job.id))
        try:
            if self._world.is_main:
                self._store.begin(job)
                progress.begin()
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

    def _fit(self, trial: Trial, related: Related, progress: Callable[[Progress], None]) -> Outcome:
        """Start from what the trial starts from, fit, judge by the validation examples, keep the weights."""
        train, validation = self._models.training_set(trial), self._sets.joined(trial.validation)
        model = self._models.start(trial, train, related)

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

    def _fit_again(self, trial: Trial, related: Related) -> None:
        """Fit a trial whose weights are gone; of several processes, this one alone."""
        alone = self if self._world.size == 1 else Worker(replace(self._setting, key="", world=World()))
        alone._fit(trial, related, lambda progress: None)

    # Score a point ---------------------------------------------------------------------------------------------------

    def _score(self, point: Point, work: Work) -> Outcome:
        """Choose a trial by validation error, load its model, and measure it once on the test set."""
        trials = self._results(work)
        if isinstance(trials, Outcome):
            return trials
        chosen = choose(trials)
        if chosen is None:  # nothing was fitted: zero-shot, or an untrained network
            model = self._models.start(point, self._models.training_set(point), work.related)
        else:
            model = self._models.fitted(chosen, work.related)

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
            "parameters": index(model.parameters),  # a record takes no other number
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
            return self._failure(work.job, failed_before(what, first, work.related, self._store))
        return {id: result for id, result in found.items() if result is not None}


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
