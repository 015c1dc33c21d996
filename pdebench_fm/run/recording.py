"""From outcomes to records: one for every row of a plan, written as soon as its point is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pdebench_fm import records
from pdebench_fm._util.text import quoted
from pdebench_fm.plan.job import TRAINING_VERSION, Job, Trial, count
from pdebench_fm.plan.plan import Plan, PlannedRow
from pdebench_fm.records import file as record_file
from pdebench_fm.records.record import COST, Cell, Record, TrialRecord
from pdebench_fm.records.search import Tried, search_state
from pdebench_fm.run.provenance import provenance
from pdebench_fm.run.work import Outcome
from pdebench_fm.scoring.shift import RealisedShift


def _metric_versions(result: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the metrics that a point was scored with: older ones, if its weights are gone."""
    scored_with = result.get("scored_with", {}).get("versions", {})
    return {f"metric {name}": version for name, version in scored_with.items()}


def _of_plugins(fitted: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the plugins that were loaded when a trial was fitted, perhaps by an earlier run."""
    return {name: text for name, text in fitted.get("versions", {}).items() if name.startswith("plugin ")}


class RecordLog:
    """The records of a run: one for each row of the plan, written as soon as its point is scored.

    Rows that the model does not support are written at once.

    Args:
        path: the file; may hold the records of earlier runs.
        writes: False to write nothing.
    """

    def __init__(self, path: Path, plan: Plan, maker: RecordMaker, writes: bool = True) -> None:
        self._path = path
        self._plan = plan
        self._maker = maker
        self._writes = writes
        self._known: dict[Any, Record] = {}
        self._newest: dict[Any, Record] = {}  # what tables and figures show
        self._size = self._lines = 0  # of the file, as far as it has been read
        self._read()
        self._by_row: dict[int, Record] = {}
        self.changed = False
        """Whether anything was written."""
        self._rows_of: dict[str, list[int]] = {}
        for number, row in enumerate(plan.rows):
            if row.unsupported:
                self._write(number, None)
            else:
                self._rows_of.setdefault(row.job.id, []).append(number)

    @property
    def made(self) -> list[Record]:
        """One per row, in the order of the plan, once every job has been entered."""
        return [self._by_row[number] for number in range(len(self._plan.rows))]

    @property
    def others(self) -> list[Record]:
        """The newest records in the file of what this run did not do: other profiles, tasks and seeds."""
        self._read()
        made = {record.place for record in self._by_row.values()}
        return [record for place, record in self._newest.items() if place not in made and self._belongs(record)]

    def _belongs(self, record: Record) -> bool:
        """Whether a record may stand beside this run's: in its profile, only of the same version of suite and model."""
        plan = self._plan
        same = (record.suite_version, record.described.model.plain()) == (plan.suite.version, plan.model.describe())
        return same or record.profile != plan.profile_name

    def enter(self, job: Job, outcome: Outcome) -> None:
        """Write the record of every row that a job fills: none for a trial, several where cells share a point."""
        for number in self._rows_of.get(job.id, ()):
            self._write(number, outcome)

    def _write(self, number: int, outcome: Outcome | None) -> None:
        row = self._plan.rows[number]
        record = self._as_known(row, outcome) or self._maker.make(row, outcome)
        if self._writes and self._newest.get(record.place) != record:
            with record_file.lock(self._path):
                self._read()  # another run on this folder may have written it
                record = self._as_known(row, outcome) or record
                if self._newest.get(record.place) != record:
                    self._size = record_file.add(self._path, record, self._size)
                    self._lines += 1
                    self._note(record)
                    self.changed = True
        self._by_row[number] = record

    def _as_known(self, row: PlannedRow, outcome: Outcome | None) -> Record | None:
        """Return the record in the file, if this run only read its scores; None if a new one has to be made.

        The file says what was measured, and where. What the suite says now is this run's.
        """
        if outcome is not None and not outcome.reused:
            return None
        plan = self._plan
        place = (plan.suite.name, plan.suite.version, plan.profile_name, row.kind, plan.model.name)
        earlier = self._known.get((*place, Cell(row.task, row.protocol, row.examples, row.seed), row.job.id))
        if earlier is None or not _same_scores(earlier, outcome):
            return None
        of_the_suite: dict[str, Any] = {"shift": row.shift, "under_trained": plan.profile.under_trained}
        if any(part.path is not None for part in row.job.test):  # `physics` of files is no part of the job
            of_the_suite["overlap"] = self._maker.overlap(row)
        if all(getattr(earlier, name) == value for name, value in of_the_suite.items()):
            return earlier
        return earlier.model_copy(update=of_the_suite)

    def _read(self) -> None:
        """Read what was added to the file; what a killed run has half written is not there yet."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < self._size:  # it was written anew
            self._size, self._lines, self._known, self._newest = 0, 0, {}, {}
        if size == self._size:
            return
        with self._path.open("rb") as file:
            file.seek(self._size)
            for line in file:
                if record_file.is_torn(line):
                    break
                self._size += len(line)
                if line != b"\n":  # the end of a last line that lacked it
                    self._lines += 1
                    self._note(record_file.parse(line, f"{self._path}:{self._lines}"))

    def _note(self, record: Record) -> None:
        self._known[record.key] = self._newest[record.place] = record


def _same_scores(record: Record, outcome: Outcome | None) -> bool:
    """Whether a record has the scores of an outcome; None is that of a row that the model does not support."""
    if outcome is None:
        return record.status == "unsupported"
    interval = {name: tuple(ends) for name, ends in outcome.result.get("interval", {}).items()}
    scores = (outcome.status, outcome.result.get("metrics", {}), interval)
    return (record.status, record.metrics, record.interval) == scores


class RecordMaker:
    """Turns outcomes into records; what all records of a run share is gathered once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._store = plan.store
        self._now = provenance(plan.device, plan.registry)
        self._shift = RealisedShift(plan.registry)
        self._plugins = {
            "training": TRAINING_VERSION,
            f"model {plan.model.name}": plan.model.version,
            **{f"metric {name}": plan.registry.get("metrics", name).version for name in plan.registry.names("metrics")},
        }

    def make(self, row: PlannedRow, outcome: Outcome | None) -> Record:
        """Return the record of one row; ``outcome`` is None if the model does not support it."""
        result: Mapping[str, Any] = outcome.result if outcome is not None else {}
        tried = result.get("trials", row.job.trials) if outcome is not None else ()
        jobs = [self._plan.trial(id) for id in tried]
        trials = [self._trial(trial) for trial in jobs]
        chosen = next((trial for trial in trials if trial.job_id == result.get("chosen")), None)
        fitted = self._store.result(chosen.job_id) if chosen is not None else None
        measured = result if result else self._now  # a result knows what it was made with
        return Record.model_validate(
            {
                # where in the results
                "schema": records.SCHEMA,
                "kind": row.kind,
                "job_id": row.job.id,
                "job": row.job.describe(),
                "suite": self._plan.suite.name,
                "suite_version": self._plan.suite.version,
                "profile": self._plan.profile_name,
                "task": row.task,
                "shift": row.shift,
                "model": self._plan.model.name,
                "model_args": self._plan.model.lasting_arguments,
                "protocol": row.protocol,
                "examples": row.examples,
                "data_seed": self._plan.suite.data_seed,
                "seed": row.seed,
                "pretrain_job_id": row.pretraining,
                "overlap": self.overlap(row),
                "under_trained": self._plan.profile.under_trained,
                # what came of it
                "status": outcome.status if outcome is not None else "unsupported",
                "reason": quoted(row.unsupported if outcome is None else outcome.reason),
                "metrics": result.get("metrics", {}),
                "interval": result.get("interval", {}),
                "errors_sha256": result.get("errors_sha256"),
                "test_examples": result.get("test_examples", 0),
                "coefficient_rise": result.get("coefficient_rise"),
                "parameters": result.get("parameters"),
                **{name: result.get(name) for name in COST},
                "notes": result.get("notes", {}),
                # how it was tuned
                "learning_rate": chosen.hyperparameters.get("learning_rate") if chosen else None,
                "epochs": chosen.epochs if chosen else 0,
                "steps": chosen.steps if chosen else 0,
                "train_seconds": chosen.train_seconds if chosen else 0.0,
                "data_seconds": fitted["data_seconds"] if fitted else 0.0,
                "validation_examples": count(jobs[0].validation) if jobs else 0,
                "budget": asdict(jobs[0].budget) if jobs else None,
                "trials": [trial.model_dump() for trial in trials],
                "search": search_state([Tried(trial.hyperparameters, trial.validation) for trial in trials]),
                # with what
                "device": (fitted or measured)["device"],
                "threads": (fitted or measured)["threads"],
                "precision": self._plan.precision,
                "versions": {
                    **_of_plugins(fitted or {}),
                    **measured["versions"],
                    **self._plugins,
                    **_metric_versions(result),
                },
                "commit": measured["commit"],
            }
        )

    def overlap(self, row: PlannedRow) -> float | None:
        """Return how far the row's task really is from its pre-training."""
        pair = self._plan.pairs.get(row.task) if row.kind == "point" else None
        return None if pair is None else self._shift.of_pair(pair)

    def _trial(self, trial: Trial) -> TrialRecord:
        result = self._store.result(trial.id)
        if result is None:
            result = {"validation": None, "epochs": 0, "steps": 0, "best_epoch": 0, "train_seconds": 0.0}
            result |= {"status": "failed", "reason": self._store.failure(trial.id)}
        taken = ("status", "reason", "validation", "epochs", "steps", "best_epoch", "train_seconds")
        return TrialRecord.model_validate(
            {
                "job_id": trial.id,
                "hyperparameters": dict(trial.hyperparameters),
                **{name: result[name] for name in taken},
            }
        )
