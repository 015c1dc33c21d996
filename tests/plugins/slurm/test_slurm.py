"""What only Slurm does: signals, an environment of its own, added trials, several nodes on one fit, ``--detach``."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pdefm_slurm.queue import queued

from pdebench_fm.api import make_executor
from pdebench_fm.errors import SettingError, WorkerDiedError
from pdebench_fm.interfaces import Schedules, Task
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry import registry
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.scheduling import task
from pdebench_fm.run.work import Setting
from pdebench_fm.suite.reading import load_suite
from tests.support import same_records
from tests.support.command import PATIENCE, UNET, pdefm, wait_until, write_suite
from tests.support.installed import with_toy
from tests.support.slurm import FAST
from tests.support.toy import TOY, Toy, run_in

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
        wait_until((tmp_path / "loads").exists, "the import")
        newest = max(map(int, queued() or ()))  # one of another test may be about to leave
        subprocess.run(["scancel", f"--signal={name}", str(newest)], check=True)
        assert future.result(timeout=PATIENCE) == repr(int)
    assert log(tmp_path).count("queued again") == again


def test_a_notice_longer_than_the_time_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="must be less than the time limit, 60 s, got 90"):
        executor(tmp_path, time=1, notice=90)
    executor(tmp_path, time=0, notice=90).shutdown()  # 0 is no limit


def _environment() -> dict[str, str]:
    return dict(os.environ)


def test_jobs_have_the_threads_of_their_cores_and_are_safe_from_files_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "signal.py").write_text("raise RuntimeError('not the signal of Python')\n")
    monkeypatch.chdir(tmp_path)
    with executor(tmp_path / "runs", cpus=2) as made:
        found = made.submit(_environment).result(timeout=PATIENCE)
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


def test_a_run_that_is_detached_is_collected_later_and_equals_one_here(tmp_path: Path) -> None:
    write_suite(tmp_path)
    there = ("--executor", "slurm", "--executor-set", "tasks=2", "--executor-set", "poll=1", "--output", "there")
    command = ("run", "tiny.yaml", *UNET)
    submitted = pdefm(*command, *there, "--detach", folder=tmp_path)
    assert (submitted.returncode, submitted.stdout) == (0, ""), submitted.stderr
    tasks = sorted(queued() or ())
    again = pdefm(*command, *there, "--detach", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert set(queued() or ()) <= set(tasks)  # nothing is submitted twice
    collected = pdefm(*command, *there, folder=tmp_path)
    assert collected.returncode == 0, collected.stderr
    here = pdefm(*command, "--output", "here", folder=tmp_path)
    assert collected.stdout == here.stdout.replace("here/", "there/")
    assert same_records.main(str(tmp_path / "here"), str(tmp_path / "there")) == 0


def test_a_run_that_is_broken_off_leaves_the_tasks_of_another(tmp_path: Path) -> None:
    job = Task("a" * 64, partial(time.sleep, 4))
    with executor(tmp_path) as one:
        assert isinstance(one, Schedules)
        (future,) = one.schedule([job])
        other = executor(tmp_path)
        assert isinstance(other, Schedules)
        (watched,) = other.schedule([job])
        other.shutdown(cancel_futures=True)
        assert watched.done()
        assert future.result(timeout=PATIENCE) is None


def test_benchmarks_and_tests_run_on_a_node(tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "on_executor.py"
    where = ("--executor", "slurm", "--executor-set", "poll=1", "--device", "cpu", "--output", str(tmp_path))
    code = "import os; print(os.environ['SLURM_JOB_ID'], os.getcwd()); raise SystemExit(3)"
    done = subprocess.run(
        [sys.executable, script, *where, "--", sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.split()[0].isdecimal()
    assert done.stdout.split()[1] == str(tmp_path)


class DiesInTheMiddle(Toy):
    """Kills its second process once a state was written, and says whether a fit finds one."""

    def fit(self, train, validation, budget, trial, context):  # type: ignore[no-untyped-def]
        notes = context.workspace.parents[1]
        if context.rank == 0 and list(context.workspace.glob("resume*")):
            (notes / "resumed").touch()
        if context.rank == 1 and not (notes / "died").exists():
            calls = 0

            def die(module: object, inputs: object) -> None:
                nonlocal calls
                calls += 1
                if calls == 10:
                    time.sleep(4)  # so long that the next step writes a state
                if list(context.workspace.glob("resume*")):
                    (notes / "died").touch()
                    os.kill(os.getpid(), signal.SIGKILL)

            self.network.register_forward_pre_hook(die)
        return super().fit(train, validation, budget, trial, context)


FIFTY = (
    ("[1e-3, 1e-2]", "[1e-2]"),
    ("{epochs: 2, learning_rates: [1e-4, 1e-3]}", "{epochs: 50, learning_rates: [1e-2]}"),
    ("grid: 16", "grid: 8"),
)


def losses(output: Path, job: Trial) -> list[float]:
    history = (output / "jobs" / job.id / "history.jsonl").read_text().splitlines()
    return [json.loads(line)["train_loss"] for line in history]


@pytest.mark.parametrize(("nodes", "each"), [(1, 2), (2, 1)])
def test_processes_of_a_fit_take_the_steps_of_one_and_continue_when_one_has_died(
    tmp_path: Path, nodes: int, each: int
) -> None:
    found = []
    for name, factory in (("here", Toy), ("there", DiesInTheMiddle)):
        plan = plan_of(tmp_path, registry().with_model(replace(TOY, factory=factory)), *FIFTY)
        plan.store = JobStore(tmp_path / name)
        (job,) = (job for job in plan.jobs.values() if isinstance(job, Trial))
        found.append(task(job, plan, Setting(uuid4().hex, plan.registry, plan.store, "cpu")))
    here, there = found
    assert here.call().status == "ok"
    with executor(tmp_path / "there", nodes=nodes, tasks_per_node=each) as made:
        (future,) = made.schedule([there])  # type: ignore[attr-defined]
        error = future.exception(timeout=PATIENCE)
        assert isinstance(error, WorkerDiedError)
        assert "\n" not in str(error)
        (future,) = made.schedule([there])  # type: ignore[attr-defined]
        assert future.result(timeout=PATIENCE).status == "ok"
    assert (tmp_path / "there" / "jobs" / "resumed").exists()
    expected = losses(tmp_path / "here", job)
    assert len(expected) == 50
    assert losses(tmp_path / "there", job) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_a_folder_that_a_node_does_not_see_is_one_line(tmp_path: Path, count: int) -> None:
    nodes = sorted(["localhost", platform.node().partition(".")[0]])[:count]
    hidden = Path(os.environ["SLURM_CONF"]).with_name(f"hidden-{nodes[-1]}")
    (hidden / "seen").touch()
    with executor(tmp_path, sbatch={"nodelist": nodes[-1]}) as made:
        if made.submit(os.path.exists, hidden / "seen").result(timeout=PATIENCE):
            pytest.skip("this machine does not let a node have mounts of its own")
    with executor(hidden / "runs", nodes=count, sbatch={"nodelist": ",".join(nodes)}) as made:
        error = made.submit(int).exception(timeout=PATIENCE)
    says = f"or its node does not see {hidden}/runs/slurm", f"a node does not see {hidden}/runs/slurm; log: "
    assert says[count - 1] in str(error)
    assert "\n" not in str(error)
