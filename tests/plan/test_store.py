from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.interfaces import Budget, OperatorModel
from pdebench_fm.plan.job import FewShot, Point, Start, Trial
from pdebench_fm.plan.model import ModelSpec
from pdebench_fm.plan.protocol import ProtocolSpec
from pdebench_fm.plan.store import JobStore

_COMMON: dict[str, Any] = {
    "model": ModelSpec("toy", "toy", "toy", "1", {}),
    "protocol": ProtocolSpec("scratch", "1"),
    "start": Start("initialised"),
    "train": (),
    "few_shot": FewShot(4, 0),
    "seed": 0,
    "precision": "float32",
    "selection": "1",
}
TRIAL = Trial(**_COMMON, validation=(), budget=Budget(1, None, 4), hyperparameters={})
POINT = Point(**_COMMON, trials=(TRIAL.id,), test=())
NOW = {"versions": {"relative_l2": "1"}, "evaluation": "2"}
MADE: dict[str, Any] = {"status": "ok", "reason": "", "device": "cpu", "threads": 1, "versions": {}, "commit": None}
FITTED = {
    **MADE,
    "validation": 0.5,
    "epochs": 1,
    "steps": 1,
    "best_epoch": 1,
    "train_seconds": 1.0,
    "data_seconds": 0.5,
}
SCORED = {
    **MADE,
    **{"chosen": TRIAL.id, "trials": [TRIAL.id], "metrics": {"relative_l2": 0.5}, "interval": {}, "test_examples": 1},
    **{"coefficient_rise": None, "parameters": 1, "notes": {}, "scored_with": NOW},
}


class Saved:
    """Stands for a model: writes its one weight, or half of it."""

    def __init__(self, weight: str, whole: bool = True) -> None:
        self.weight = weight
        self.whole = whole

    def save(self, path: Path) -> None:
        (path / "weight").touch(0o600)  # as safetensors does
        (path / "weight").write_text(self.weight)
        if not self.whole:
            raise OSError("disk full")


def model(weight: str, whole: bool = True) -> OperatorModel:
    return Saved(weight, whole)  # type: ignore[return-value]


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    store = JobStore(tmp_path)
    for job in (TRIAL, POINT):
        with store.lock(job.id):
            store.begin(job)
    return store


def test_a_job_that_was_begun_is_not_done(store: JobStore) -> None:
    assert store.finished(TRIAL, NOW) is None
    assert store.result(TRIAL.id) is None


def test_the_end_of_a_job_clears_what_only_its_fit_needed(store: JobStore) -> None:
    store.workspace(TRIAL.id).mkdir()
    store.log_failure(TRIAL, ValueError("no room"))
    assert store.failure(TRIAL.id) == "ValueError: no room"
    assert "\n\nValueError: no room" in (store.folder(TRIAL.id) / "failure.log").read_text()
    store.end(TRIAL, FITTED)
    assert store.finished(TRIAL, NOW) == FITTED
    assert store.failure(TRIAL.id) == "failed, and left no log"
    assert {path.name for path in store.folder(TRIAL.id).iterdir()} <= {"job.json", "result.json", "lock"}


@pytest.mark.parametrize("left", ["", '{"status": "o', "{}", "[1]", '{"status": "ok"}'])
def test_half_a_result_or_one_of_another_kind_is_none(store: JobStore, left: str) -> None:
    (store.folder(TRIAL.id) / "result.json").write_text(left)
    assert store.result(TRIAL.id) is None


@pytest.mark.parametrize("wrong", [{"train_seconds": float("nan")}, {"commit": object()}])
def test_a_result_that_could_not_be_read_again_is_not_written(store: JobStore, wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match="not JSON"):
        store.end(TRIAL, {**FITTED, **wrong})
    assert store.result(TRIAL.id) is None


def test_a_result_of_a_version_that_wrote_other_keys_is_named_and_set_aside(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.end(TRIAL, {key: value for key, value in FITTED.items() if key != "steps"})
    store.set_aside_damaged(TRIAL.id)
    assert "it has no steps; set aside" in caplog.text
    assert store.result(TRIAL.id) is None


def test_a_point_is_scored_again_where_scores_have_changed_and_its_weights_are_there(store: JobStore) -> None:
    store.end(POINT, SCORED)
    later = {**NOW, "evaluation": "3"}
    assert store.finished(POINT, NOW) == SCORED
    assert store.finished(POINT, later) == SCORED  # there is nothing left to score
    store.keep_model(TRIAL, model("1.0"))
    assert store.finished(POINT, NOW) == SCORED
    assert store.finished(POINT, later) is None


@pytest.mark.skipif(os.name == "nt", reason="modes of files are those of POSIX")
def test_weights_can_be_read_by_all_who_can_read_results(store: JobStore) -> None:
    before = os.umask(0o027)
    try:
        store.keep_model(TRIAL, model("1.0"))
    finally:
        os.umask(before)
    (weight,) = store.model(TRIAL.id).iterdir()
    assert stat.S_IMODE(weight.stat().st_mode) == 0o640


def test_new_weights_take_the_place_of_old_ones_only_when_they_are_whole(store: JobStore) -> None:
    store.keep_model(TRIAL, model("1.0"))
    store.keep_model(TRIAL, model("2.0"))
    assert (store.model(TRIAL.id) / "weight").read_text() == "2.0"
    with pytest.raises(OSError, match="disk full"):
        store.keep_model(TRIAL, model("3", whole=False))
    assert not store.model(TRIAL.id).exists()
    store.keep_model(TRIAL, model("3.0"))  # what was left of the attempt is in nobody's way
    assert [path.name for path in store.model(TRIAL.id).iterdir()] == ["weight"]
