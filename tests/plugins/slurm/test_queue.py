"""What ``pdefm status`` says of jobs that were submitted to Slurm, with no Slurm here."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from pdefm_slurm.queue import folder_of, write_submission

from pdebench_fm.cli.status import status
from pdebench_fm.plan.store import JobStore
from pdebench_fm.run.status import write_plan
from tests.support.installed import with_toy
from tests.support.toy import plan_of


def test_on_a_cluster_every_job_has_its_task_and_log_and_a_heartbeat_counts_as_life(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_toy())
    plan.store = JobStore(tmp_path / "runs")
    plan.folder.mkdir(parents=True)
    write_plan(plan)
    first, second, third, *_ = plan.jobs.values()
    queue = folder_of(tmp_path / "runs")
    queue.mkdir()
    write_submission(queue, ["7_0", "7_1"], [[first.id, second.id], [third.id]])
    for job, age in ((first, 30), (second, 300)):
        folder = plan.store.folder(job.id)
        folder.mkdir(parents=True)
        about = {"done": 1, "total": 4, "unit": "epoch", "best": 0.5, "started": 1000.0, "updated": 1010.0}
        (folder / "progress.json").write_text(json.dumps({**about, "host": "another-node", "pid": 1}))
        os.utime(folder / "progress.json", (time.time() - age,) * 2)
    shown = CliRunner().invoke(status, [str(tmp_path / "runs"), "--json"], standalone_mode=False)
    jobs = {job["id"]: job for job in json.loads(shown.stdout)[0]["jobs"]}
    assert [jobs[job.id]["state"] for job in (first, second, third)] == ["running", "interrupted", "waiting"]
    assert [jobs[job.id]["task"] for job in (first, second, third)] == ["7_0", "7_0", "7_1"]
    assert jobs[first.id]["log"] == str(queue / "7_0_0_log.out")
    assert jobs[first.id]["progress"]["host"] == "another-node"
    assert jobs[first.id]["seconds_left"] == pytest.approx(30.0)
    assert "running: " in CliRunner().invoke(status, [str(tmp_path / "runs")], standalone_mode=False).stdout
