"""Damaged files in a folder of results: they are named, and what they held is computed again."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pdebench_fm.errors import DataFileError, RecordError
from pdebench_fm.plan.job import Job
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.store import check_weights
from pdebench_fm.run.prepare import prepare
from pdebench_fm.run.runner import Reporter, RunResult
from pdebench_fm.run.work import Outcome
from tests.support.installed import with_toy
from tests.support.records import read
from tests.support.toy import TOY, plan_of, run_in, toy_suite


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, finished_run: Callable[[Path], RunResult]
) -> tuple[Path, RunResult]:
    """A finished run, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    return folder / "runs", finished_run(folder / "runs")


@pytest.fixture
def plan(tmp_path: Path, finished: tuple[Path, RunResult]) -> Plan:
    """The plan of a finished run whose folder a test may damage."""
    shutil.copytree(finished[0], tmp_path / "runs")
    plan = plan_of(tmp_path, with_toy(), output=tmp_path / "runs")
    return plan


def measured(result: RunResult) -> list[tuple[object, ...]]:
    return [(r.place, r.status, r.metrics, r.interval, r.learning_rate) for r in result.records]


def changed(text: str, **values: object) -> str:
    return json.dumps({**json.loads(text), **values})


DAMAGE: dict[str, Callable[[str], str]] = {
    "a key is missing": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "commit"}),
    "every key but two is missing": lambda text: '{"status": "ok", "reason": ""}',
    "no checksum": lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != "sha256"}),
    "another status": lambda text: changed(text, status="running"),
    "a changed number": lambda text: changed(text, train_seconds=1.0, validation=1e-9, metrics={"relative_l2": 1e-9}),
    "a key too many": lambda text: changed(text, more=1),
    "no JSON": lambda text: text[:50],
    "a list": lambda text: f"[{text}]",
    "another number": lambda text: "1e999",
    "no text": lambda text: "\x00\ud800",
    "brackets without end": lambda text: "[" * 100_000,
}


def test_damaged_results_are_named_set_aside_and_made_again(
    plan: Plan, finished: tuple[Path, RunResult], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(plan.jobs) > 2 * len(DAMAGE)
    files = [plan.store.folder(job) / "result.json" for job in plan.jobs]
    for file, damage in zip(files, itertools.cycle(DAMAGE.values())):
        file.write_bytes(damage(file.read_text()).encode("utf-8", "surrogatepass"))
    assert not any(map(plan.store.result, plan.jobs))
    with caplog.at_level(logging.WARNING):
        again = run_in(plan.store.output, plan)
    assert measured(again) == measured(finished[1])
    for file in files:
        assert f"{file}: is damaged" in caplog.text
        assert file.with_name("result.damaged.json").exists()
    assert not run_in(plan.store.output, plan).changed


def test_the_result_of_another_job_is_damage(plan: Plan, finished: tuple[Path, RunResult]) -> None:
    one, other = (row.job.id for row in plan.rows if row.protocol == "scratch" and row.examples == 8)
    shutil.copy(plan.store.folder(other) / "result.json", plan.store.folder(one) / "result.json")
    assert plan.store.result(one) is None
    assert measured(run_in(plan.store.output, plan)) == measured(finished[1])


def test_one_flipped_bit_in_kept_weights_is_found_and_they_are_fitted_again(
    plan: Plan, finished: tuple[Path, RunResult], caplog: pytest.LogCaptureFixture
) -> None:
    pretraining = next(row.job.id for row in plan.rows if row.kind == "pretraining")
    result = plan.store.result(pretraining)
    assert result is not None
    file = plan.store.model(result["chosen"]) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-2] ^= 0x40  # the exponent of a weight
    file.write_bytes(data)
    for row in plan.rows:
        if row.protocol == "zero-shot":
            (plan.store.folder(row.job.id) / "result.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert measured(run_in(plan.store.output, plan)) == measured(finished[1])
    assert str(file.parent) in caplog.text
    check_weights(file.parent)


def test_kept_weights_that_have_changed_are_not_taken_for_a_pretraining(plan: Plan, tmp_path: Path) -> None:
    pretraining = next(row.job.id for row in plan.rows if row.kind == "pretraining" and row.task == "mixed")
    result = plan.store.result(pretraining)
    assert result is not None
    folder = plan.store.model(result["chosen"])
    file, sums = folder / "model.safetensors", folder.with_name("model.sha256")
    whole = file.read_bytes()
    (folder / ".DS_Store").write_text("is no harm")
    for path in (folder, file):
        prepare(TOY, toy_suite(tmp_path), pretrained=path, output=plan.store.output)
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1]):
        file.write_bytes(damaged)
        for path in (folder, file):
            with pytest.raises(DataFileError, match="SHA-256"):
                prepare(TOY, toy_suite(tmp_path), pretrained=path, output=plan.store.output)
    file.write_bytes(whole)
    sums.write_text("")
    with pytest.raises(DataFileError, match="SHA-256"):
        prepare(TOY, toy_suite(tmp_path), pretrained=folder, output=plan.store.output)


def test_two_runs_on_one_folder_write_every_record_once(tmp_path: Path) -> None:
    class Another(Reporter):
        """Lets another run do everything, once this one has begun."""

        begun = False

        def finished(self, job: Job, outcome: Outcome) -> None:
            if not self.begun:
                self.begun = True
                run_in(tmp_path / "runs", plan_of(tmp_path, with_toy()))

    result = run_in(tmp_path / "runs", plan_of(tmp_path, with_toy()), reporter=Another())
    lines = (result.folder / "records.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == len(result.records)
    assert {record.key: record for record in read(result.folder / "records.jsonl")} == {
        record.key: record for record in result.records
    }


def test_a_run_that_was_killed_while_it_wrote_a_record_goes_on(
    tmp_path: Path, finished_run: Callable[[Path], RunResult]
) -> None:
    plan = plan_of(tmp_path, with_toy())
    result = finished_run(tmp_path / "runs")
    path = result.folder / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-300])
    again = run_in(tmp_path / "runs", plan)
    assert again.changed
    assert again.records == result.records == read(path)


@pytest.mark.parametrize("tail", ["whole", "foreign"])
def test_what_somebody_left_at_the_end_of_the_records_is_not_cut_off(
    tmp_path: Path, finished_run: Callable[[Path], RunResult], tail: str
) -> None:
    plan = plan_of(tmp_path, with_toy())
    path = finished_run(tmp_path / "runs").folder / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[1:]).rstrip(b"\n") if tail == "whole" else b"".join(lines[1:]) + b"my notes")
    if tail == "foreign":
        with pytest.raises(RecordError, match="not a record"):
            run_in(tmp_path / "runs", plan)
        assert path.read_bytes().endswith(b"my notes")
        return
    assert run_in(tmp_path / "runs", plan).changed
    assert path.read_bytes().splitlines()[:-1] == [line.rstrip() for line in lines[1:]]
