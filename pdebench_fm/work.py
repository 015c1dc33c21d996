"""How one job is carried out: fit a trial, or choose among trials and score a point.

``OUTPUT/jobs/<job id>/`` holds all of a job: ``job.json`` (its description), ``model/`` (weights), ``history.jsonl``,
resume state while it runs, and ``result.json``, written last and atomically: where it is, the job is done. A lock file
keeps two runs on one folder apart: the second waits and then finds the work done.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from pdebench_fm.data.combine import NoExamples, Subset
from pdebench_fm.data.sources import SetCache, few_shot_ids, hash_of
from pdebench_fm.errors import DataFileError, RunError
from pdebench_fm.evaluation import EVALUATION_VERSION, interval, per_sample
from pdebench_fm.group import Group
from pdebench_fm.interfaces import (
    Examples,
    FitContext,
    FitReport,
    Metric,
    OperatorModel,
    Progress,
    TransferProtocol,
    Trial,
)
from pdebench_fm.interfaces.executor import Report
from pdebench_fm.messages import printable
from pdebench_fm.plan import PRETRAINING, SCORE, Job, Plan, budget_of
from pdebench_fm.plugins import Registry
from pdebench_fm.probes import coefficient_rise, keep_samples
from pdebench_fm.problem import Problem
from pdebench_fm.provenance import provenance, source_commit


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
        """Take part in every trial that the leader of the group announces."""
        worker = Worker(self.plan, self.registry, self.output, device, group)
        while (job_id := group.hear()) is not None:
            worker.take_part(self.plan.jobs[job_id])

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
        self._fitting = False
        self._registry = registry
        self._folder = output / "jobs"
        self._device = device
        self._sets = SetCache(registry, device)
        source_commit()  # asked now: what is committed later is not what was loaded
        self._metrics: dict[str, Metric] = {n: registry.load("metrics", n)() for n in registry.names("metrics")}
        self._metric_versions = {name: registry.get("metrics", name).version for name in self._metrics}

    def perform(self, job: Job, report: Report) -> Outcome:
        """Do the job, or find it done. What goes wrong inside is part of the outcome, with a log beside it."""
        report(None)
        folder = self._folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            found = self.finished(job)
            if found is not None:
                return found
            try:
                _write_json(folder / "job.json", job.description)
                outcome = self._outcome(job, folder, report)
                if outcome.result:
                    outcome = replace(outcome, result={**outcome.result, **provenance(self._device)})
                    (folder / "failure.log").unlink(missing_ok=True)
                    _write_json(folder / "result.json", outcome.result)
                    shutil.rmtree(folder / "workspace", ignore_errors=True)  # not sooner: the fit would be lost
            except Exception as error:  # a model of somebody else may raise anything; the other jobs go on
                with suppress(OSError):  # the disk may be full, and just that what went wrong
                    (folder / "failure.log").write_text(traceback.format_exc(), encoding="utf-8")
                if self._group is not None and self._fitting:  # the others wait for this process, mid-step
                    raise RunError(one_line(f"{job.label}: {type(error).__name__}: {error}")) from error
                return Outcome("failed", reason=one_line(f"{type(error).__name__}: {error}"))
            return outcome

    def _outcome(self, job: Job, folder: Path, report: Report) -> Outcome:
        try:
            return self._fit(job, folder, report) if job.kind == "trial" else self._score(job, folder)
        except _DivergedError as error:
            return _diverged(str(error))

    def finished(self, job: Job) -> Outcome | None:
        """The outcome of a job that is done, None where it has to be done (again)."""
        result = self.result(job.id)
        if result is None:
            return None
        if job.kind == "point" and result["status"] == "ok":
            wanted = {"versions": self._metric_versions, "evaluation": EVALUATION_VERSION}
            kept = result["chosen"] is None or self._model_folder(result["chosen"]).exists()
            if result["scored_with"] != wanted and kept:
                return None  # a metric is new or has changed: score again, without training
        return Outcome(result["status"], result, result["reason"], reused=True)

    def result(self, job_id: str) -> dict[str, Any] | None:
        """What a job left behind, None where it is not done."""
        try:
            text = (self._folder / job_id / "result.json").read_text(encoding="utf-8")
            result: dict[str, Any] = json.loads(text)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a power cut left half of it
            return None
        return result

    # A trial ---------------------------------------------------------------------------------------------------------

    def take_part(self, job: Job) -> None:
        """Fit a trial together with the leader, who evaluates and writes."""
        self._fitted(job, self._start(job.description, self._training_set(job)), lambda progress: None)

    def _fitted(self, job: Job, model: OperatorModel, progress: Callable[[Progress], None]) -> FitReport:
        """Fit the model of a trial from where it stands."""
        description = job.description
        train, validation = self._training_set(job), self._sets.joined(job.sets["validation"])
        trial = Trial(description["hyperparameters"], description["seed"])
        rank, ranks = (self._group.rank, self._group.count) if self._group is not None else (0, 1)
        workspace = self._folder / job.id / "workspace"
        context = FitContext(workspace, self._device, description["precision"], progress, rank, ranks)
        budget = budget_of(description)
        if description["protocol"]["name"] == PRETRAINING:
            return model.fit(train, validation, budget, trial, context)
        protocol: TransferProtocol = self._registry.load("protocols", description["protocol"]["name"])()
        return protocol.adapt(model, train, validation, budget, trial, context)

    def _fit(self, job: Job, folder: Path, progress: Callable[[Progress], None]) -> Outcome:
        workspace = folder / "workspace"
        workspace.mkdir(exist_ok=True)
        model = self._start(job.description, self._training_set(job))
        if self._group is not None:  # not sooner: what the trial starts from may have had to be fitted again
            self._group.announce(job.id)
        self._fitting = True
        report = self._fitted(job, model, progress)
        self._fitting = False
        result = {**_summary(report), "validation": None, "parameters": model.parameters, "notes": dict(model.notes())}
        if report.status == "ok":
            sets = [self._sets.open(spec) for spec in job.sets["validation"]]
            score = self._metrics[SCORE]
            value = float(score.summarise(per_sample(model, sets, {SCORE: score})[SCORE]))
            if np.isfinite(value):
                result["validation"] = value
                self._keep(model, folder)
            else:
                result |= {"status": "diverged", "reason": f"validation {SCORE} is not finite"}
        with (folder / "history.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(dict(entry)) + "\n" for entry in report.history)
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
        parent = self.result(start["job"])
        if parent is None:
            raise RunError("its pre-training failed")
        if parent["status"] != "ok":
            raise _DivergedError(f"its pre-training diverged: {parent['reason']}")
        return self._chosen_model(self._plan.jobs[parent["chosen"]])

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

    def _keep(self, model: OperatorModel, folder: Path) -> None:
        """Save the weights so that a reader sees all of them or none."""
        temporary = folder / "model.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(folder / "model", ignore_errors=True)
        temporary.mkdir()
        model.save(temporary)
        os.replace(temporary, folder / "model")

    # A point ---------------------------------------------------------------------------------------------------------

    def _score(self, job: Job, folder: Path) -> Outcome:
        trials = [self._plan.jobs[trial] for trial in job.description["trials"]]
        results = {trial.id: self.result(trial.id) for trial in trials}
        missing = [trial.label for trial in trials if results[trial.id] is None]
        if missing:
            # With fewer trials than the others this arm would be tuned on a smaller budget.
            return Outcome("failed", reason=f"{len(missing)} of {len(trials)} trials failed: {missing[0]}")
        usable = {id: r["validation"] for id, r in results.items() if r is not None and r["status"] == "ok"}
        if trials and not usable:
            reason = "; ".join(sorted({r["reason"] for r in results.values() if r is not None}))
            return _diverged(f"all {len(trials)} trials diverged: {reason}")
        chosen = min(usable, key=lambda id: usable[id]) if usable else None
        if chosen is None:
            model = self._start(job.description, self._training_set(job))
        else:
            model = self._chosen_model(self._plan.jobs[chosen])
        sets = [self._sets.open(spec) for spec in job.sets["test"]]
        failed: dict[str, Exception] = {}
        values = per_sample(model, sets, self._metrics, failed)
        if SCORE in failed:
            raise failed[SCORE]
        metrics = {name: float(self._metrics[name].summarise(scores)) for name, scores in values.items()}
        if not np.isfinite(metrics[SCORE]):
            return _diverged(f"test {SCORE} is not finite")
        notes = dict(model.notes())
        if job.description["start"]["from"] == "weights":
            notes["pretrained weights"] = job.description["start"]["sha256"]
        for name in [name for name, value in metrics.items() if not (np.isfinite(value) and value >= 0)]:
            # A metric of somebody else's must not decide what becomes of the point.
            notes[f"metric {name}"] = f"left out: its value is {metrics.pop(name)}"
        notes |= {f"metric {n}": one_line(f"left out: {type(e).__name__}: {e}") for n, e in failed.items()}
        rise = None
        try:  # what is asked beyond the score must not cost it
            keep_samples(model, sets, values[SCORE], folder)
            rise = coefficient_rise(model, sets, self._metrics[SCORE], values[SCORE])
        except Exception as error:
            notes["probes"] = one_line(f"not taken: {type(error).__name__}: {error}")
        result = {
            "status": "ok",
            "reason": "",
            "chosen": chosen,
            "metrics": metrics,
            "coefficient_rise": rise,
            "interval": {name: interval(self._metrics[name], values[name]) for name in metrics},
            "test_examples": sum(len(opened.examples) for opened in sets),
            "parameters": model.parameters,
            "notes": notes,
            "scored_with": {"versions": self._metric_versions, "evaluation": EVALUATION_VERSION},
        }
        for loser in usable.keys() - {chosen}:  # their scores are kept; their weights are never needed again
            shutil.rmtree(self._model_folder(loser), ignore_errors=True)
        return Outcome("ok", result)

    def _chosen_model(self, trial: Job) -> OperatorModel:
        """Load the chosen trial's weights; fit it again where they were cleared away, or are damaged."""
        folder = self._folder / trial.id
        model = self._loaded(folder)
        if model is not None:
            return model
        with FileLock(folder / "lock"):
            model = self._loaded(folder)  # another run may have been quicker
            if model is None:
                self._fit(trial, folder, lambda progress: None)
                shutil.rmtree(folder / "workspace", ignore_errors=True)
                model = self._kind.load(folder / "model", self._device)
        return model

    def _loaded(self, folder: Path) -> OperatorModel | None:
        """The model of a trial, None where there is none that can be read."""
        if not (folder / "model").exists():
            return None
        try:
            model: OperatorModel = self._kind.load(folder / "model", self._device)
        except DataFileError:
            return None
        return model

    @property
    def _kind(self) -> Any:
        """The class of the plan's model."""
        return self._registry.load("models", self._plan.model.name)

    def _model_folder(self, job_id: str) -> Path:
        return self._folder / job_id / "model"


class _DivergedError(Exception):
    """The model a job starts from has diverged, and so there is nothing to fit or score."""


def _diverged(reason: str) -> Outcome:
    report = _summary(FitReport("diverged", reason))
    return Outcome("diverged", {**report, "validation": None, "chosen": None}, report["reason"])


def _summary(report: FitReport) -> dict[str, Any]:
    summary = asdict(report)
    del summary["history"]
    summary["reason"] = one_line(report.reason) or ("no reason given" if report.status != "ok" else "")
    return summary


def one_line(text: str) -> str:
    """What somebody else's code says, fit for one line of a record and of a terminal."""
    return printable(" ".join(text.split()), 500)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write plain data so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
