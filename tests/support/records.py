"""Valid records for tests, made from the few things a test is about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pdebench_fm._util.identity import job_id
from pdebench_fm.records.file import read_lines
from pdebench_fm.records.record import Record, TrialRecord
from pdebench_fm.records.solver import SolverRecord


def append(path: Path, records: Iterable[Record]) -> None:
    """Append records to a file, which is made if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="ascii") as file:
        file.writelines(f"{record.line()}\n" for record in records)


def read(path: Path) -> list[Record]:
    """Return the latest record of each key in a file."""
    return list({record.key: record for _, record in read_lines(path)}.values())


def make_trial(learning_rate: float = 1e-3, validation: float | None = 0.1, **changes: Any) -> TrialRecord:
    description = {"kind": "trial", "learning_rate": learning_rate, **{k: str(v) for k, v in changes.items()}}
    values: dict[str, Any] = {
        "job_id": job_id(description),
        "hyperparameters": {"learning_rate": learning_rate},
        "status": "ok" if validation is not None else "diverged",
        "reason": "" if validation is not None else "the loss was no longer finite",
        "validation": validation,
        "epochs": 30,
        "steps": 300,
        "best_epoch": 28,
        "train_seconds": 2.5,
    }
    return TrialRecord(**{**values, **changes})


def make_record(
    model: str = "conv-small",
    task: str = "SYS-1(5,10)",
    protocol: str = "fine-tune",
    examples: int = 16,
    seed: int = 0,
    error: float = 0.1,
    **changes: Any,
) -> Record:
    """Return a record that is ok with relative_l2 = ``error``; with status=… an empty one of that status."""
    status = changes.get("status", "ok")
    suite = changes.get("suite", "smoke")
    base = {
        "kind": changes.get("kind", "point"),
        "model": model,
        "task": task,
        "protocol": protocol,
        "examples": examples,
        "seed": seed,
        "suite": suite,
    }
    tuned = protocol != "zero-shot" and status == "ok"
    trials = (
        make_trial(1e-3, 0.1, job_id=job_id({**base, "trial": 1})),
        make_trial(1e-2, 0.2, job_id=job_id({**base, "trial": 2})),
        make_trial(1e-4, 0.3, job_id=job_id({**base, "trial": 3})),
    )
    values: dict[str, Any] = {
        "schema": 1,
        "kind": "point",
        "suite": suite,
        "suite_version": 1,
        "profile": "smoke",
        "task": task,
        "shift": "med",
        "model": model,
        "model_args": {"width": 16},
        "parameters": 67281,
        "protocol": protocol,
        "examples": examples,
        "data_seed": 0,
        "seed": seed,
        "learning_rate": 1e-3 if tuned else None,
        "metrics": {"relative_l2": error} if status == "ok" else {},
        "interval": {"relative_l2": (0.9 * error, 1.1 * error)} if status == "ok" else {},
        "test_examples": 256,
        "status": status,
        "reason": "" if status == "ok" else f"it was {status}",
        "under_trained": False,
        "epochs": 30,
        "steps": 300,
        "train_seconds": 0.0 if protocol == "zero-shot" else 2.5,
        "data_seconds": 0.0 if protocol == "zero-shot" else 0.5,
        "device": "cpu",
        "threads": 1,
        "precision": "float32",
        "versions": {"pdebench_fm": "0.1.0"},
        "commit": None,
        "pretrain_job_id": None,
        "trials": trials if tuned else (),
        "notes": {},
    }
    merged = {**values, **changes}
    merged.setdefault("job", describe(merged, base))
    merged.setdefault("job_id", job_id(merged["job"]))
    return Record(**merged)


def with_job(record: Record, **changes: Any) -> Record:
    """Return a record with parts of its job replaced, or of its model's description; its id agrees."""
    model = {**record.job["model"], **changes.pop("model", {})}
    job = {**record.job, **changes, "model": model}
    return Record(**{**record.model_dump(by_alias=True), "job": job, "job_id": job_id(job)})


def describe(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A job description that agrees with the rest of a record; ``base`` tells jobs apart."""
    parent = values["pretrain_job_id"]
    otherwise = "released" if values["protocol"] in ("zero-shot", "fine-tune") else "initialised"
    start = {"from": "pretrained", "job": parent} if parent else {"from": otherwise}
    few_shot = {} if values["kind"] == "pretraining" else {"few_shot": {"examples": values["examples"], "seed": 0}}
    count = 4096 if few_shot else values["examples"]
    ids = [trial.job_id if isinstance(trial, TrialRecord) else trial["job_id"] for trial in values["trials"]]
    return {
        "kind": "point",
        "model": {"family": values["model"], "version": "1", "arguments": values["model_args"]},
        "protocol": {"name": values["protocol"], "version": "1"},
        "start": start,
        "train": {"sets": [{"count": count, "data_seed": values["data_seed"]}], **few_shot},
        "of": base,
        "seed": values["seed"],
        "precision": values["precision"],
        "training": "1",
        "selection": {"name": "relative_l2", "version": "1"},
        "trials": ids if ids or values["status"] == "ok" else [job_id({**base, "trial": n}) for n in (1, 2, 3)],
        "test": {
            "sets": [{"count": values["test_examples"], "data_seed": values["data_seed"], "task": values["task"]}]
        },
    }


def make_pretraining(model: str = "conv-small", source: str = "poisson", **changes: Any) -> Record:
    values: dict[str, Any] = {"kind": "pretraining", "pretrain_job_id": None, "shift": "", "error": 0.02}
    return make_record(model, source, "pretraining", 1024, **{**values, **changes})


def make_solver(solver: str = "fd", error: float = 0.05, task: str = "SYS-1(5,10)", **changes: Any) -> SolverRecord:
    values: dict[str, Any] = {
        "schema": 1,
        "suite": "smoke",
        "profile": "smoke",
        "task": task,
        "solver": solver,
        "version": "1",
        "arguments": {},
        "test": ({"count": 256, "data_seed": 0, "task": task},),
        "test_examples": 256,
        "error": error,
        "interval": (0.9 * error, 1.1 * error),
        "inference_seconds": 1e-3,
        "inference_batch": 64,
        "inference_device": "cpu (x86_64), threads: 1",
        "versions": {"pdebench_fm": "0.1.0"},
    }
    return SolverRecord(**{**values, **changes})


def make_suite(model: str = "conv-small", scale: float = 1.0, seeds: int = 1, **changes: Any) -> list[Record]:
    """Return the records of a whole small suite: two tasks, three protocols, two sizes, and its pre-training."""
    pretraining = make_pretraining(model, **changes)
    records = [pretraining]
    for task, shift, hard in (("SYS-1(1,2.5)", "none", 0.5), ("SYS-1(5,10)", "med", 1.0)):
        for seed in range(seeds):
            wobble = scale * hard * (1 + 0.1 * seed)
            common = {"model": model, "task": task, "shift": shift, "seed": seed, **changes}
            warm = {**common, "pretrain_job_id": pretraining.job_id}
            records.append(make_record(protocol="zero-shot", examples=0, error=0.4 * wobble, **warm))
            for examples in (16, 64):
                tuned, fresh = wobble * (4 / examples) ** 0.7, 1.2 * wobble * (4 / examples) ** 0.4
                records.append(make_record(protocol="fine-tune", examples=examples, error=tuned, **warm))
                records.append(make_record(protocol="scratch", examples=examples, error=fresh, **common))
    return records
