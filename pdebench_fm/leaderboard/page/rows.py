"""The rows that the page and ``leaderboard.json`` show, made from records and standings.

Numbers have six digits, which hide the last bit of a machine's logarithm.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard.references import References
from pdebench_fm.leaderboard.standing import Standing, SuiteResults
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, has_logarithm, make_curves, point_of
from pdebench_fm.records.record import Record, start_of
from pdebench_fm.records.savings import Amount, savings
from pdebench_fm.tables import arm_order, natural

Row = dict[str, Any]
Place = Callable[[Record], tuple[str, int]]
"""Record → its file, relative to the leaderboard's folder, and its line."""


def study_row(found: SuiteResults, newest: int) -> Row:
    """Return what is true of a suite, version and profile.

    Args:
        newest: version of the suite that the leaderboard has for this profile.
    """
    return {
        "study": study_name(found),
        "suite": found.suite,
        "version": found.suite_version,
        "profile": found.profile,
        "planned": len(found.planned),
        "ranked": found.from_suite,
        "under_trained": any(record.under_trained for record in found.records),
        "superseded": found.suite_version < newest,
    }


def study_name(found: SuiteResults) -> str:
    """Return e.g. ``mixed v2, lite``."""
    return f"{found.suite} v{found.suite_version}, {found.profile}"


def ranking_row(found: SuiteResults, standing: Standing) -> Row:
    """Return the row of one model in the ranking of one study."""
    mine = [record for record in found.records if record.model == standing.model]
    saving, use, against = standing.saving, standing.coefficients, standing.against
    bounds = [] if saving is None else [f"{n} {sign}" for n, sign in ((saving.more, ">"), (saving.at_most, "≤")) if n]
    return {
        "study": study_name(found),
        "model": standing.model,
        "kind": model_kind(mine),
        "rank": standing.rank,
        "score": _six(standing.score),
        "gain": _six(standing.gain),
        "gain_best_scratch": None if against is None else _six(against.best_scratch),
        "gain_baseline": None if against is None else _six(against.baseline),
        "hurts": None if against is None else len(against.hurt),
        "hurts_of": None if against is None else against.compared,
        "saving": None if saving is None else _six(saving.value),
        "saving_bounds": ", ".join(bounds) + f" of {saving.count}" if saving and bounds else "",
        "coefficients": None if use is None else _six(use.rise),
        "unused_on": "" if use is None else ", ".join(use.ignored_on),
        "open": sum(number for _, number, _ in standing.open_searches) if standing.open_searches else None,
        "open_of": sum(of for *_, of in standing.open_searches) if standing.open_searches else None,
        "open_by_arm": ", ".join(f"{arm} {number} of {of}" for arm, number, of in standing.open_searches),
        "parameters": max(standing.parameters, default=None),
        "train_seconds": _six(standing.train_seconds),
        "scratch_seconds": _six(standing.scratch_seconds),
        "device": ", ".join(standing.devices),
        "reason": standing.reason,
    }


def model_kind(records: Sequence[Record]) -> str:
    """Return ``released``, ``network`` or ``baseline``, by what the model's jobs start from and their steps."""
    trained = any(record.steps for record in records)
    arrives = any(start_of(record).get("from") == "released" for record in records)
    return ("released" if arrives else "network") if trained else "baseline"


def cell_rows(found: SuiteResults, ranking: Sequence[Standing], place: Place) -> list[Row]:
    """Return a row for each model, task, arm and N, with its records by seed."""
    planned = Counter(cell[:3] for cell in found.planned)
    references = References(
        (record for record in found.points if record.cell in found.planned),
        {standing.model for standing in ranking if standing.rank is not None},
    )
    cells: dict[tuple[str, str, str, int], list[Record]] = {}
    for record in {record.place: record for record in found.records}.values():
        cells.setdefault((record.model, record.task, record.protocol, record.examples), []).append(record)
    kinds = {s.model: model_kind([r for r in found.records if r.model == s.model]) for s in ranking}
    saved = _factors(found.points)
    hurt = {(s.model, *place) for s in ranking if s.against is not None for place in s.against.hurt}
    sources = {record.job_id: record.task for record in found.records if record.kind == "pretraining"}
    rows = []
    for model, task, arm, examples in sorted(cells, key=_cell_order):
        records = sorted(cells[model, task, arm, examples], key=lambda record: record.seed)
        scratch = cells.get((model, task, SCRATCH, examples), []) if examples and arm != SCRATCH else []
        best = references.best_scratch(task, examples) if arm == FINE_TUNE else []
        first, point = records[0], point_of(records)
        saving = saved.get((model, task, examples)) if arm == FINE_TUNE else None
        low, high = (point and point.interval) or (None, None)
        rows.append(
            {
                "study": study_name(found),
                "model": model,
                "kind": kinds[model],
                "task": task,
                "shift": first.shift if first.kind == "point" else "",
                "overlap": _six(first.overlap),
                "system": _systems(first),
                "pretraining": sources.get(first.pretrain_job_id or "", ""),
                "arm": arm,
                "n": examples,
                "error": _six(point.median) if point else None,
                "error_low": _six(low),
                "error_high": _six(high),
                "gain": _ratio(scratch, records),
                "gain_best_scratch": _ratio(best, records),
                "best_scratch": ", ".join(sorted({record.model for record in best}, key=natural)),
                "hurts": (model, task, examples) in hurt if arm == FINE_TUNE else None,
                "saving": _six(saving.value) if saving else None,
                "saving_bound": saving.bound if saving and saving.censored else "",
                "search": "/".join(sorted({record.searched for record in records if record.searched})) or None,
                "learning_rate": first.learning_rate if len(records) == 1 else None,
                "seeds": len(records),
                "seeds_of": planned[task, arm, examples] if first.kind == "point" else len(records),
                "trials": sum(len(record.trials) for record in records),
                "parameters": first.parameters,
                "train_seconds": _six(math.fsum(map(_train_seconds, records))),
                "coefficients": _six(first.coefficient_rise) if len(records) == 1 else None,
                "status": ", ".join(sorted({record.status for record in records})),
                "records": [_record_row(record, *place(record)) for record in records],
            }
        )
    return rows


def _factors(points: Sequence[Record]) -> dict[tuple[str, str, int], Amount | None]:
    """Return the data saving of fine-tuning by model, task and N."""
    curves = make_curves(points)
    return {
        (model, task, saving.examples): saving.factor
        for (model, task, arm), curve in curves.items()
        if arm == FINE_TUNE and (model, task, SCRATCH) in curves
        for saving in savings(curve, curves[model, task, SCRATCH], intervals=False)
    }


def _cell_order(cell: tuple[str, str, str, int]) -> tuple[object, ...]:
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
        "error": _six(record.metrics.get(SCORE)),
        "error_low": _six(low),
        "error_high": _six(high),
        "learning_rate": record.learning_rate,
        "validation": _six(min(chosen, default=None)),
        "search": record.searched,
        "test_examples": record.test_examples,
        "validation_examples": record.validation_examples,
        "epochs": record.epochs,
        "steps": record.steps,
        "precision": record.precision,
        "device": record.device,
        "threads": record.threads,
        "software": ", ".join(f"{name} {record.versions[name]}" for name in _SOFTWARE if name in record.versions),
        "commit": record.commit,
        "command": command(record),
        "metrics": [
            {"name": name, "value": _digits(record.metrics[name], 4)} for name in sorted({*record.metrics} - {SCORE})
        ],
        "trials": [
            {
                "hyperparameters": trial.hyperparameters,
                "validation": _six(trial.validation),
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


def command(record: Record) -> str:
    """Return the command that computes a record again, with the same job id."""
    entry, *_ = record.model.split(",")
    changed = [name for name in re.findall(r",(\w+)=", record.model) if name in record.model_args]
    words = ["pdefm", "run", record.suite, "--profile", record.profile, "--model", entry]
    for name in changed:
        value = record.model_args[name]
        words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value, separators=(',', ':'))}"]
    if record.kind == "point":
        words += ["--task", record.task, "--seeds", str(record.seed + 1)]
    if record.precision != "float32":
        words += ["--precision", record.precision]
    if start_of(record).get("from") == "weights":
        words += ["--pretrained", f"weights-{str(start_of(record).get('sha256'))[:12]}.safetensors"]
    return shlex.join(words)


def _systems(record: Record) -> str:
    """Return the names of the systems in the test examples; empty if the job does not say."""
    test = record.job.get("test")
    parts = test.get("sets", ()) if isinstance(test, Mapping) else ()
    found = {part["system"]["name"]: None for part in parts if isinstance(part.get("system"), Mapping)}
    return ", ".join(map(str, found))


def _train_seconds(record: Record) -> float:
    return math.fsum(trial.train_seconds for trial in record.trials) if record.trials else record.train_seconds


def _ratio(theirs: Iterable[Record], ours: Iterable[Record]) -> float | None:
    """Return the ratio of the median errors of two cells; None if one has none."""
    above, below = (point_of(sorted(records, key=lambda record: record.seed)) for records in (theirs, ours))
    if above is None or below is None or not has_logarithm(above.median) or not has_logarithm(below.median):
        return None
    return _six(above.median / below.median)


def _six(value: float | None) -> float | None:
    return None if value is None else _digits(value, 6)


def _digits(value: float, count: int) -> float | None:
    return float(f"{value:.{count}g}") if math.isfinite(value) else None
