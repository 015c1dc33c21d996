"""True records with one thing changed: the leaderboard refuses what it can compute again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.errors import RecordError
from pdebench_fm.hookspecs import SuiteEntry
from pdebench_fm.leaderboard import Rules
from pdebench_fm.leaderboard.evidence import against_errors
from pdebench_fm.leaderboard.plans import against_plans
from pdebench_fm.leaderboard.store import add, load
from pdebench_fm.records.errors import archive_of
from pdebench_fm.records.file import file_of
from pdebench_fm.registry.discovery import Registry
from tests.support.installed import with_toy
from tests.support.toy import plan_of, run_in, toy_suite

Data = list[dict[str, Any]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy suite."""
    folder = tmp_path_factory.mktemp("original")
    run_in(folder / "runs", plan_of(folder, with_toy()))
    return folder


@pytest.fixture
def registry(original: Path) -> Registry:
    return with_toy().with_entry("suites", SuiteEntry("toy", toy_suite(original), ""))


def rules(registry: Registry) -> Rules:
    return Rules(verify=lambda located: chain(against_errors(located), against_plans(located, registry)))


def mutated(original: Path, folder: Path, change: Callable[[Data], None]) -> Path:
    """Copy a run and change its records."""
    runs = shutil.copytree(original / "runs", folder / "runs")
    path = runs / "toy" / "toy" / "records.jsonl"
    data = [json.loads(line) for line in path.read_text().splitlines()]
    change(data)
    path.write_text("".join(json.dumps(record) + "\n" for record in data))
    return path


def point(data: Data, protocol: str = "scratch", examples: int = 8) -> dict[str, Any]:
    return next(r for r in data if r["protocol"] == protocol and r["examples"] == examples)


def scaled(factor: float) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        for record in data:
            record["metrics"] = {name: value * factor for name, value in record["metrics"].items()}
            record["interval"] = {name: [end * factor for end in ends] for name, ends in record["interval"].items()}

    return change


def exchanged(data: Data) -> None:
    one, other = point(data), point(data, "fine-tune")
    for key in ("metrics", "interval"):
        one[key], other[key] = other[key], one[key]


def with_interval(*ends: float) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        score = point(data)["metrics"]["relative_l2"]
        point(data)["interval"]["relative_l2"] = [score * end for end in ends]

    return change


def in_trial(key: str, value: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        point(data)["trials"][0][key] = value

    return change


def everywhere(key: str, value: Any) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        for record in data:
            if record[key] is not None:
                record[key] = value

    return change


MUTANTS: dict[str, Callable[[Data], None]] = {
    "lowered scores": scaled(0.9),
    "scores next to zero": scaled(1e-300),
    "exchanged scores": exchanged,
    "a collapsed interval": with_interval(1, 1),
    "a wide interval": with_interval(1e-300, 1e300),
    "a wider interval": with_interval(0.9, 1.2),
    "another rate": in_trial("hyperparameters", {"learning_rate": 5e-4}),
    "more epochs": in_trial("epochs", 500),
    "a later best epoch": in_trial("best_epoch", 500),
    "another budget": everywhere("budget", {"epochs": 500, "steps": None, "batch_size": 8}),
    "fewer epochs": everywhere("epochs", 1),
    "fewer parameters": everywhere("parameters", 10),
    "another overlap": everywhere("overlap", 0.123),
    "more validation examples": everywhere("validation_examples", 800),
    "fewer operations": everywhere("flops", 1000),
    "a fast prediction": everywhere("inference_seconds", 1e-12),
    "a slow prediction": everywhere("inference_seconds", 1e300),
    "a batch larger than the test set": everywhere("inference_batch", 1000),
    "no memory": everywhere("peak_memory", 10),
    "endless memory": everywhere("peak_memory", 2**53),
    "endless seconds": everywhere("train_seconds", 1e308),
    "seconds of data": everywhere("data_seconds", 1e6),
    "a Cyrillic name": everywhere("model", "t\u043ey"),
    "an accent": everywhere("model", "toÿ"),
    "a name in Markdown": everywhere("model", "*toy*"),
    "a space in a name": everywhere("model", "my toy"),
    "other errors": everywhere("errors_sha256", "0" * 64),
    "fewer test examples": everywhere("test_examples", 4),
}


def test_the_true_records_are_accepted_with_their_errors(tmp_path: Path, original: Path, registry: Registry) -> None:
    path = mutated(original, tmp_path, lambda data: None)
    report = add(tmp_path / "board", [path], rules(registry))
    assert report.added == len(path.read_text().splitlines())
    (stored,) = {file_of(where) for where, _ in load(tmp_path / "board")}
    assert archive_of(stored).is_file()
    again = add(tmp_path / "board", [path], rules(registry))
    assert (again.added, len(again.skipped)) == (0, report.added)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_changed_record_is_refused(tmp_path: Path, original: Path, registry: Registry, name: str) -> None:
    path = mutated(original, tmp_path, MUTANTS[name])
    with pytest.raises(RecordError):
        add(tmp_path / "board", [path], rules(registry))
    assert not (tmp_path / "board" / "records").exists()


def test_half_a_line_at_the_end_is_named(tmp_path: Path, original: Path, registry: Registry) -> None:
    path = mutated(original, tmp_path, lambda data: None)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(RecordError, match=r"records.jsonl:\d+: not a record"):
        add(tmp_path / "board", [path], rules(registry))
