"""The rows of cells and records that the page and ``leaderboard.json`` show."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from pdebench_fm._util.grouping import grouped
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.page.rows import Row, digits, model_kind, prediction_row, seen_tasks, six, study_name
from pdebench_fm.leaderboard.references import References, gain
from pdebench_fm.leaderboard.standing import Prediction, Standing, SuiteResults
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, make_curves, point_of
from pdebench_fm.records.record import Record
from pdebench_fm.records.savings import Amount, savings
from pdebench_fm.tables.wording import arm_order, natural

_Key = tuple[str, str, str, int]
"""Model, task, arm and N."""


_NO_GAINS: Row = {
    "gain": None,
    "gain_best_scratch": None,
    "best_scratch": "",
    "hurts": None,
    "saving": None,
    "saving_bound": "",
}


class Cells:
    """The cells of one study: model, task, arm and N, over all seeds."""

    def __init__(self, found: SuiteResults, ranking: Sequence[Standing], board: Board) -> None:
        self._board, self._study = board, study_name(found)
        self._seen = {(s.model, task) for s in ranking for task in seen_tasks(board.cards, s.model, found)}
        self._suite = board.suites.get((found.suite, found.suite_version), found.suite)
        self._planned = Counter(cell[:3] for cell in found.planned)
        self._records = _by_key(found.records)
        self._kinds = {s.model: model_kind([r for r in found.records if r.model == s.model]) for s in ranking}
        self._factors = _factors(found.points)
        self._hurt = {(s.model, *place) for s in ranking if s.against is not None for place in s.against.hurt}
        self._sources = {record.job_id: record.task for record in found.records if record.kind == "pretraining"}
        self._references = References(
            found.planned_points, {standing.model for standing in ranking if standing.rank is not None}
        )

    def rows(self) -> list[Row]:
        """Return a row for each cell, with its records by seed."""
        return [self._row(key) for key in sorted(self._records, key=_order)]

    def _row(self, key: _Key) -> Row:
        model, task, arm, examples = key
        records, first = self._records[key], self._records[key][0]
        planned = self._planned[task, arm, examples] if first.kind == "point" else len(records)
        return {
            "study": self._study,
            "model": model,
            "kind": self._kinds[model],
            "task": task,
            "shift": first.shift if first.kind == "point" else "",
            "overlap": six(first.overlap),
            "system": ", ".join(first.described.test.systems),
            "seen": (model, task) in self._seen,
            "pretraining": self._sources.get(first.pretrain_job_id or "", ""),
            "arm": arm,
            "n": examples,
            **_error(records),
            **(self._gains(key) if first.kind == "point" and arm != SCRATCH and examples else _NO_GAINS),
            "search": "/".join(sorted({record.searched for record in records if record.searched})) or None,
            "learning_rate": first.learning_rate if len(records) == 1 else None,
            "seeds": len(records),
            "seeds_of": planned,
            "trials": sum(len(record.trials) for record in records),
            "parameters": first.parameters,
            "train_seconds": six(math.fsum(map(_train_seconds, records))),
            **prediction_row(Prediction.of(records)),
            "coefficients": six(first.coefficient_rise) if len(records) == 1 else None,
            "status": ", ".join(sorted({record.status for record in records})),
            **self._confirmed(records),
            "records": [
                {
                    **_record_row(record, *self._board.places[record.key]),
                    "command": command(record, self._suite),
                    "confirmations": self._second_rows(record),
                }
                for record in records
            ],
        }

    def _confirmed(self, records: Sequence[Record]) -> Row:
        found = self._board.confirmations.summary(records)
        return {"confirmed": str(found), "apart": found.apart}

    def _second_rows(self, record: Record) -> list[Row]:
        """Return the second measurements of a record."""
        return [
            {
                "error": six(one.metrics.get(SCORE)),
                "status": one.status,
                "difference": None if one.difference is None else digits(one.difference, 2),
                "apart": apart,
                "device": one.device,
                "threads": one.threads,
                "software": _software(one.versions),
            }
            for one, apart in self._board.confirmations.of_record(record)
        ]

    def _gains(self, key: _Key) -> Row:
        """Return what the cell gains over training from scratch."""
        model, task, arm, examples = key
        best = self._references.best_scratch(task, examples)
        saving = self._factors.get((model, task, examples)) if arm == FINE_TUNE else None
        return {
            "gain": six(gain(self._records.get((model, task, SCRATCH, examples), ()), self._records[key])),
            "gain_best_scratch": six(gain(best, self._records[key])),
            "best_scratch": ", ".join(sorted({record.model for record in best}, key=natural)),
            "hurts": (model, task, examples) in self._hurt if arm == FINE_TUNE else None,
            "saving": six(saving.value) if saving else None,
            "saving_bound": saving.bound if saving and saving.censored else "",
        }


def _by_key(records: Sequence[Record]) -> dict[_Key, list[Record]]:
    """Return records by cell, in order of their seeds. The later of two at one place counts."""
    by_seed = sorted({record.place: record for record in records}.values(), key=lambda record: record.seed)
    return grouped(by_seed, lambda record: (record.model, record.task, record.protocol, record.examples))


def _error(records: Sequence[Record]) -> Row:
    """Return the median over seeds and its interval."""
    point = point_of(records)
    low, high = (point and point.interval) or (None, None)
    return {"error": six(point.median) if point else None, "error_low": six(low), "error_high": six(high)}


def _factors(points: Sequence[Record]) -> dict[tuple[str, str, int], Amount | None]:
    """Return the data saving of fine-tuning by model, task and N."""
    curves = make_curves(points)
    return {
        (model, task, saving.examples): saving.factor
        for (model, task, arm), curve in curves.items()
        if arm == FINE_TUNE and (model, task, SCRATCH) in curves
        for saving in savings(curve, curves[model, task, SCRATCH], intervals=False)
    }


def _order(cell: _Key) -> tuple[object, ...]:
    model, task, arm, examples = cell
    return arm == "pretraining", natural(task), natural(model), arm_order(arm), examples


def _record_row(record: Record, path: str, line: int) -> Row:
    low, high = record.interval.get(SCORE, (None, None))
    chosen = [trial.validation for trial in record.trials if trial.validation is not None]
    return {
        "seed": record.seed,
        "job": record.job_id,
        "file": path,
        "line": line,
        "status": record.status,
        "reason": record.reason,
        "error": six(record.metrics.get(SCORE)),
        "error_low": six(low),
        "error_high": six(high),
        "learning_rate": record.learning_rate,
        "validation": six(min(chosen, default=None)),
        "search": record.searched,
        "test_examples": record.test_examples,
        "validation_examples": record.validation_examples,
        "epochs": record.epochs,
        "steps": record.steps,
        "precision": record.precision,
        "device": record.device,
        "threads": record.threads,
        "software": _software(record.versions),
        "commit": record.commit,
        "metrics": [
            {"name": name, "value": digits(record.metrics[name], 4)} for name in sorted({*record.metrics} - {SCORE})
        ],
        "trials": [
            {
                "hyperparameters": trial.hyperparameters,
                "validation": six(trial.validation),
                "status": trial.status,
                "reason": trial.reason,
                "best_epoch": trial.best_epoch,
                "epochs": trial.epochs,
                "train_seconds": round(trial.train_seconds, 1),
                "job": trial.job_id[:12],
            }
            for trial in record.trials
        ],
    }


_SOFTWARE = ("pdebench_fm", "torch", "numpy", "python")


def _software(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in _SOFTWARE if name in versions)


def command(record: Record, suite: str) -> str:
    """Return the command that computes a record again, with the same job id.

    Args:
        suite: its name, or its file.
    """
    entry, *_ = record.model.split(",")
    changed = [name for name in re.findall(r",(\w+)=", record.model) if name in record.model_args]
    words = ["pdefm", "run", suite, "--profile", record.profile, "--model", entry]
    for name in changed:
        value = record.model_args[name]
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"]
    for name in _local_arguments(record):
        words += ["--set", f"{name}=…"]
    if record.kind == "point":
        words += ["--task", record.task, "--seeds", str(record.seed + 1)]
    if record.precision != "float32":
        words += ["--precision", record.precision]
    if weights := record.own_weights:
        words += ["--pretrained", f"weights-{weights[:12]}.safetensors"]
    return shlex.join(words)


def _local_arguments(record: Record) -> list[str]:
    """Return the arguments that only say where files are; a name has the fingerprint of these files instead."""
    fingerprint = record.described.model.fingerprint
    return re.findall(rf",(\w+)=[^,]*-{re.escape(fingerprint[:8])}(?=,|$)", record.model) if fingerprint else []


def _train_seconds(record: Record) -> float:
    return math.fsum(trial.train_seconds for trial in record.trials) if record.trials else record.train_seconds
