"""What must not move without a version bump: job ids, and one score of the smoke suite.

Job ids are exact on every machine. The score is held to a tolerance: FFTs and thread counts move the last bits, and
training amplifies them. If a change moves either on purpose, bump the version of what changed (a plugin's entry,
`TRAINING_VERSION`, or the suite), say so under "Scores changed" in the CHANGELOG, and rewrite the files:

    PDEFM_REWRITE_GOLDEN=1 python -m pytest tests/test_golden.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry.discovery import registry
from pdebench_fm.run.work import Setting, Work
from pdebench_fm.run.worker import Worker
from pdebench_fm.suite.reading import load_suite
from tests.support.records import read

JOBS = Path(__file__).parent / "golden" / "jobs.json"
RECORDS = Path(__file__).parents[1] / "leaderboard" / "records" / "smoke" / "smoke" / "fno-64k.jsonl"
MODELS = ("fno-64k", "unet", "mode-regression")


def smoke_plan(model: str) -> Plan:
    return make_plan(load_suite("smoke"), "smoke", model_spec(registry(), model), registry())


def test_job_ids_have_not_moved() -> None:
    found = {f"{model}: {job.label}": job.id for model in MODELS for job in smoke_plan(model).jobs.values()}
    if os.environ.get("PDEFM_REWRITE_GOLDEN"):
        JOBS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert found == json.loads(JOBS.read_text(encoding="utf-8"))


def test_the_committed_records_are_those_of_this_version() -> None:
    committed = {record.job_id for record in read(RECORDS)}
    assert {row.job.id for row in smoke_plan("fno-64k").rows} == committed


def test_one_smoke_score_is_the_committed_one(tmp_path: Path) -> None:
    plan = smoke_plan("fno-64k")
    row = next(row for row in plan.rows if (row.task, row.protocol, row.examples) == ("SYS-1(5,10)", "scratch", 16))
    worker = Worker(Setting("golden", registry(), JobStore(tmp_path), "cpu"))
    for trial in row.job.trials:
        assert worker.do(Work(plan.jobs[trial], {})).status == "ok"
    measured = worker.do(Work(row.job, plan.related(row.job), row.job.trials)).result["metrics"]
    committed = [record.metrics for record in read(RECORDS) if record.job_id == row.job.id]
    assert len(committed) == 2  # two tasks share the job: scratch does not depend on the pre-training
    assert all(measured == pytest.approx(metrics, rel=0.03) for metrics in committed)
