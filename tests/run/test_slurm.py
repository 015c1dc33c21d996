"""What only Slurm does: signals, an environment of its own, added trials."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.api import make_executor
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry import registry
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.queue import queued
from pdebench_fm.suite.reading import load_suite
from tests.support import same_records
from tests.support.command import wait_until, write_suite
from tests.support.installed import with_toy
from tests.support.slurm import FAST
from tests.support.toy import run_in

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]


def executor(output: Path, **settings: object) -> Executor:
    return make_executor(registry(), "slurm", {**FAST, **settings}, output=output)


def log(output: Path) -> str:
    """What all tasks have printed."""
    return "".join(path.read_text() for path in output.glob("slurm/*_log.out"))


class SlowToLoad:
    """What takes two seconds to import, the first time."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return _loaded, (self.mark,)


def _loaded(mark: Path) -> type[int]:
    if not mark.exists():
        mark.touch()
        time.sleep(2)
    return int


@pytest.mark.parametrize(("name", "again"), [("USR2", 1), ("TERM", 0)])
def test_a_signal_while_a_task_still_imports_loses_nothing(tmp_path: Path, name: str, again: int) -> None:
    with executor(tmp_path, notice=2) as made:
        future = made.submit(repr, SlowToLoad(tmp_path / "loads"))
        wait_until((tmp_path / "loads").exists, "the import", 200)
        subprocess.run(["scancel", f"--signal={name}", *(queued() or ())], check=True)
        assert future.result(timeout=200) == repr(int)
    assert log(tmp_path).count("queued again") == again


def _environment() -> dict[str, str]:
    return dict(os.environ)


def test_jobs_have_the_threads_of_their_cores_and_are_safe_from_files_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signal.py").write_text("raise RuntimeError('not the signal of Python')\n")
    monkeypatch.chdir(tmp_path)
    with executor(tmp_path / "runs", cpus=2) as made:
        found = made.submit(_environment).result(timeout=200)
    assert found["OMP_NUM_THREADS"] == "2"
    assert found["PYTHONSAFEPATH"] == "1"


def plan_of(folder: Path, registered: Registry, *changes: tuple[str, str]) -> Plan:
    """Plan a suite of one task with few jobs."""
    path = write_suite(
        folder, ("[zero-shot, fine-tune, scratch]", "[scratch]"), ("downstream: [4, 8]", "downstream: [4]"), *changes
    )
    return make_plan(load_suite(path, registered), "tiny", model_spec(registered, "toy"), registered)


def test_points_that_add_trials_add_those_of_a_run_here(tmp_path: Path) -> None:
    changes = ("    fine_tuning:", "    extend: 1\n    fine_tuning:")
    with executor(tmp_path / "there") as made:
        found = run_in(tmp_path / "there", plan_of(tmp_path, with_toy(), changes), executor=made)
    assert any(len(record.trials) > 2 for record in found.records)
    run_in(tmp_path / "here", plan_of(tmp_path, with_toy(), changes))
    assert same_records.main(str(tmp_path / "here"), str(tmp_path / "there")) == 0
