"""How one job is carried out: fit a trial, or choose among trials and score a point."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pdebench_fm._util.text import named, one_line, printable, quoted, show
from pdebench_fm.data.combine import NoExamples, Subset
from pdebench_fm.data.open import SetCache, few_shot_ids, hash_of
from pdebench_fm.errors import PLUGIN_ERRORS, DataFileError, DivergedError, RunError
from pdebench_fm.interfaces import Examples, FitContext, FitReport, OperatorModel, Progress, TransferProtocol, Trial
from pdebench_fm.interfaces.executor import Report
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.job import PRETRAINING, Job, Plan, budget_of
from pdebench_fm.problem import Problem
from pdebench_fm.records.record import MOST
from pdebench_fm.registry import Registry
from pdebench_fm.run.distributed import Group
from pdebench_fm.run.provenance import provenance, source_commit
from pdebench_fm.run.store import JobStore
from pdebench_fm.scoring.point import choose, load_metrics, measure, scored_with, validation_error
from pdebench_fm.scoring.probes import probe

_DAMAGED = (OSError, RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError)
"""What reading a damaged file may raise where the model is somebody else's; what is wrong with code is not among it."""
_ONE_FOLDER = "every node must see the same --output folder"


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: ``ok``, ``diverged`` or ``failed``; the first two are final, a failed job is tried again.
        result: what ``result.json`` holds; empty where the job failed.
        reason: one line where the status is not ``ok``.
        reused: whether the work had been done before.
    """

    status: str
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    reused: bool = False


@dataclass(frozen=True)
class Perform:
    """Does a job in whatever process it is called; each process makes one `Worker` for all its jobs."""

    plan: Plan
    registry: Registry
    output: Path
    device: str
    group: Group | None = None

    def __call__(self, job: Job, report: Report) -> Outcome:
        """Do the job, or find it done."""
        return self._worker.perform(job, report)

    def follow(self, group: Group, device: str) -> None:
        """Take part in every trial that the leader of the group announces.

        Raises:
            RunError: a fit broke off here; the leader waits for this process, or has broken off, too.
        """
        worker = Worker(self.plan, self.registry, self.output, device, group)
        while (job_id := group.hear()) is not None:
            job = self.plan.jobs[job_id]
            try:
                worker.take_part(job)
            except PLUGIN_ERRORS as error:
                worker.log_failure(job, error)
                raise RunError(quoted(f"{job.label}: process {group.rank}: {named(error)}")) from error

    @cached_property
    def _worker(self) -> Worker:
        return Worker(self.plan, self.registry, self.output, self.device, self.group)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_worker"}


class Worker:
    """Carries out the jobs of one plan in this process.

    Args:
        plan: where parents are looked up.
        registry: where plugins come from.
        output: the folder that holds ``jobs/``.
        device: torch device.
        group: the processes that fit every trial together, where there are several. This one leads, unless it only
            takes part.
    """

    def __init__(self, plan: Plan, registry: Registry, output: Path, device: str, group: Group | None = None) -> None:
        self._plan = plan
        self._group = group
        self._registry = registry
        self._store = JobStore(output)
        self._device = device
        self._sets = SetCache(registry, device)
        self._unreadable: set[str] = set()  # trials whose weights could not be read when they had just been written
        source_commit()  # asked now: what is committed later is not what was loaded
        self._metrics, self._left_out = load_metrics(registry)
        self._scored_with = scored_with(registry, self._metrics)

    def perform(self, job: Job, report: Report) -> Outcome:
        """Do the job, or find it done. What goes wrong inside is part of the outcome, with a log beside it.

        Raises:
            RunError: a fit broke off that several processes do together: the others wait for this one, mid-step.
        """
        report(None)
        with self._store.lock(job.id):
            found = self._store.finished(job, self._scored_with)
            if found is not None:
                return Outcome(found["status"], found, found["reason"], reused=True)
            try:
                self._store.begin(job)
                outcome = self._outcome(job, partial(_heard, report))
                if outcome.result:
                    outcome = replace(outcome, result={**outcome.result, **provenance(self._device)})
                    self._store.end(job, outcome.result)
                return outcome
            except _UnheardError as unheard:
                raise unheard.error from None
            except _BrokenOffError as broken:
                self._store.log_failure(job, broken.error)
                raise RunError(quoted(f"{job.label}: {named(broken.error)}")) from broken.error
            except PLUGIN_ERRORS as error:  # the other jobs go on
                self._store.log_failure(job, error)
                return Outcome("failed", reason=quoted(named(error)))

    def _outcome(self, job: Job, report: Report) -> Outcome:
        try:
            return self._fit(job, report) if job.kind == "trial" else self._score(job)
        except DivergedError as error:
            summary = _summary(FitReport("diverged", str(error)))
            return Outcome("diverged", {**summary, "validation": None, "chosen": None}, summary["reason"])

    # A trial ---------------------------------------------------------------------------------------------------------

    def log_failure(self, job: Job, error: BaseException) -> None:
        """Keep what went wrong here, beside what the leader of the group keeps."""
        self._store.log_failure(job, error, self._group.rank if self._group is not None else 0)

    def take_part(self, job: Job) -> None:
        """Fit a trial together with the leader, who evaluates and writes."""
        self._fitted(job, self._start(job.description, self._training_set(job)), lambda progress: None)

    def _fitted(self, job: Job, model: OperatorModel, progress: Callable[[Progress], None]) -> object:
        """Fit the model of a trial from where it stands; returns what should be a `FitReport`."""
        description = job.description
        train, validation = self._training_set(job), self._sets.joined(job.sets["validation"])
        trial = Trial(description["hyperparameters"], description["seed"])
        rank, ranks = (self._group.rank, self._group.count) if self._group is not None else (0, 1)
        context = FitContext(
            self._store.workspace(job.id), self._device, description["precision"], progress, rank, ranks
        )
        budget = budget_of(description)
        name = description["protocol"]["name"]
        if name == PRETRAINING:
            return model.fit(train, validation, budget, trial, context)
        protocol: TransferProtocol = self._registry.load("protocols", name)()
        return protocol.adapt(model, train, validation, budget, trial, context)

    def _fit(self, job: Job, progress: Callable[[Progress], None]) -> Outcome:
        self._store.workspace(job.id).mkdir(exist_ok=True)
        model = self._start(job.description, self._training_set(job))
        if self._group is None:
            report = self._fitted(job, model, progress)
        else:
            try:
                self._group.announce(job.id)  # not sooner: what the trial starts from may have had to be fitted again
                report = self._fitted(job, model, progress)
            except PLUGIN_ERRORS as error:
                raise _BrokenOffError(error) from error
        if not isinstance(report, FitReport):
            name = job.description["protocol"]["name"]
            asked = "fit" if name == PRETRAINING else f"adapt of protocol {name!r}"
            raise TypeError(f"{asked} must return a FitReport, got {show(report)}")
        result = {**_summary(report), "validation": None, "parameters": _parameters(model), "notes": _notes(model)}
        if report.status == "ok":
            sets = [self._sets.open(spec) for spec in job.sets["validation"]]
            value = validation_error(model, sets, self._metrics)
            if np.isfinite(value):
                result["validation"] = value
                self._store.keep_model(job, model)
            else:
                result |= {"status": "diverged", "reason": f"validation {SCORE} is not finite"}
        self._store.write_history(job, report.history)
        return Outcome(result["status"], result, result["reason"])

    def _start(self, description: Mapping[str, Any], train: Examples) -> OperatorModel:
        """The model as the job finds it, before any fitting."""
        start = description["start"]
        if start["from"] in ("initialised", "released"):
            model = self._plan.model.make(self._registry)
            model.initialise(Problem.parse(start["problem"]), train, description["seed"])
            return model
        if start["from"] == "weights":
            assert self._plan.weights is not None
            path = Path(self._plan.weights.path)
            if hash_of(path) != start["sha256"]:
                raise DataFileError(f"{path}: the weights have changed since the run was planned")
            loaded: OperatorModel = self._kind.load(path, self._device)
            return loaded
        parent = self._store.result(start["job"])
        if parent is None:
            raise RunError(
                f"cannot read its pre-training: {_ONE_FOLDER}" if self._follows else "its pre-training failed"
            )
        if parent["status"] != "ok":
            raise DivergedError(f"its pre-training diverged: {parent['reason']}")
        return self._chosen_model(parent["chosen"])

    def _training_set(self, job: Job) -> Examples:
        """The examples the job's model is initialised on and fitted to."""
        train = job.description["train"]
        few_shot = train.get("few_shot")
        if few_shot is None:
            return self._sets.joined(job.sets["train"])
        if few_shot["examples"] == 0:
            problem = job.description["start"].get("problem")
            return NoExamples(Problem.parse(problem) if problem else self._sets.joined(job.sets["test"]).problem)
        (spec,) = job.sets["train"]
        pool = self._sets.open(spec)
        ids = few_shot_ids(len(pool.examples), few_shot["examples"], few_shot["seed"], pool.period)
        return Subset(pool.examples, ids)

    # A point ---------------------------------------------------------------------------------------------------------

    def _score(self, job: Job) -> Outcome:
        """Choose a trial, load its model, measure that on the test set, and probe it."""
        found = {trial: self._store.result(trial) for trial in job.description["trials"]}
        trials = {trial: result for trial, result in found.items() if result is not None}
        if len(trials) < len(found):
            # With fewer trials than the others this arm would be tuned on a smaller budget.
            missing = [trial for trial in found if trial not in trials]
            first = f"{self._plan.jobs[missing[0]].label}: {self._store.failure(missing[0])}"
            return Outcome("failed", reason=quoted(f"{len(missing)} of {len(found)} trials failed: {first}"))
        chosen = choose(trials)
        model = self._chosen_model(chosen) if chosen else self._start(job.description, self._training_set(job))
        sets = [self._sets.open(spec) for spec in job.sets["test"]]
        measured = measure(model, sets, self._metrics)
        notes = _notes(model)
        if job.description["start"]["from"] == "weights":
            notes["pretrained weights"] = job.description["start"]["sha256"]
        rise, untaken = probe(model, sets, self._metrics[SCORE], measured.errors, self._store.folder(job.id))
        result = {
            "status": "ok",
            "reason": "",
            "chosen": chosen,
            "metrics": measured.metrics,
            "coefficient_rise": rise,
            "interval": measured.intervals,
            "test_examples": sum(len(opened.examples) for opened in sets),
            "parameters": _parameters(model),
            "notes": {**notes, **self._left_out, **measured.left_out, **untaken},
            "scored_with": self._scored_with,
        }
        for loser in trials.keys() - {chosen}:  # their scores are kept; their weights are never needed again
            self._store.clear_model(loser)
        return Outcome("ok", result)

    def _chosen_model(self, trial_id: str) -> OperatorModel:
        """Load the chosen trial's weights; fit it again where they were cleared away, or are damaged."""
        trial = self._plan.jobs[trial_id]
        model = self._loaded(trial)
        if model is not None:
            return model
        if self._follows:  # the leader has them, and is at another fit: one that began here would wait for it for ever
            raise RunError(f"cannot read the weights of {trial.label}: {_ONE_FOLDER}")
        with self._store.lock(trial.id):
            model = self._loaded(trial)  # another run may have been quicker
            if model is None:
                self._fit(trial, lambda progress: None)
                self._store.clear_workspace(trial.id)
                self._unreadable.add(trial.id)  # where even these cannot be read, another fit would not help
                model = self._kind.load(self._store.model(trial.id), self._device)
                self._unreadable.discard(trial.id)
        return model

    def _loaded(self, trial: Job) -> OperatorModel | None:
        """The model of a trial, None where there is none that can be read."""
        folder = self._store.model(trial.id)
        if not folder.exists():
            return None
        try:
            model: OperatorModel = self._kind.load(folder, self._device)
        except torch.cuda.OutOfMemoryError:  # says nothing of the weights
            raise
        except (DataFileError, *_DAMAGED):
            if trial.id in self._unreadable:
                raise
            return None
        return model

    @property
    def _follows(self) -> bool:
        """Whether another process leads, and has written what this one looks for."""
        return self._group is not None and not self._group.leads

    @cached_property
    def _kind(self) -> Any:
        """The class of the plan's model; what is registered may be a function that makes one."""
        return type(self._plan.model.make(self._registry))


class _UnheardError(BaseException):
    """What listens to progress has raised ``error``, e.g. since the reader of a terminal has gone: not the model's."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _heard(report: Report, progress: Progress | None) -> None:
    if progress is not None:  # plain numbers of its own; what cannot be read is the fault of who reports
        best = None if progress.best is None else float(progress.best)
        progress = Progress(int(progress.done), int(progress.total), str(progress.unit), best)
    try:
        report(progress)
    except PLUGIN_ERRORS as error:
        raise _UnheardError(error) from error


class _BrokenOffError(Exception):
    """A fit that several processes do together has raised ``error`` in this one."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _notes(model: OperatorModel) -> dict[str, str]:
    """What a model has to say, in the form that a record takes."""
    return {printable(one_line(name)) or "note": quoted(text) for name, text in model.notes().items()}


def _parameters(model: OperatorModel) -> int:
    count = model.parameters
    if not isinstance(count, int) or not 0 <= count <= MOST:
        raise RunError(f"parameters must be a whole number from 0 to 2**53, got {show(count)}")
    return count


def _summary(report: FitReport) -> dict[str, Any]:
    summary = asdict(report)
    del summary["history"]
    summary["reason"] = quoted(report.reason) or ("no reason given" if report.status != "ok" else "")
    return summary
