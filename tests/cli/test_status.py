"""``pdefm status`` and ``pdefm clean``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pdefm_slurm.queue import write_submission

from pdebench_fm._util.processes import is_running, mark
from pdebench_fm.cli.status import status
from pdebench_fm.errors import RunError
from pdebench_fm.hookspecs import ExecutorEntry
from pdebench_fm.interfaces import Progress, QueuedJob
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry import Registry, registry
from pdebench_fm.run.cleaning import deletable
from pdebench_fm.run.progress import ProgressFile, read_progress
from pdebench_fm.run.runner import Reporter, RunResult
from pdebench_fm.run.status import JobStatus, is_alive, read_runs, write_plan
from tests.support.installed import with_toy
from tests.support.toy import plan_of, run_in

Call = Callable[..., tuple[int, str, str]]
Finished = Callable[[Path], RunResult]


def test_status_counts_what_is_done_and_what_is_left(tmp_path: Path, call: Call) -> None:
    class Stops(Reporter):
        done = 0

        def finished(self, job: object, outcome: object) -> None:
            self.done += 1
            if self.done == 5:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path / "runs", plan_of(tmp_path, with_toy()), reporter=Stops())
    (run,) = read_runs(tmp_path / "runs", registry())
    assert (run.count("done"), run.count("waiting")) == (5, len(run.jobs) - 5)
    code, out, _ = call("status", tmp_path / "runs")
    assert code == 0
    counts = f"toy · toy · tiny: {len(run.jobs)} jobs: 5 done, {len(run.jobs) - 5} waiting"
    assert out == f"{counts}; nothing is running, the same command goes on\n"
    _, out, _ = call("status", tmp_path / "runs", "--json")
    assert len(json.loads(out)[0]["jobs"]) == len(run.jobs)


def test_a_job_whose_process_is_gone_is_interrupted_and_a_failed_one_says_why(
    tmp_path: Path, call: Call, finished_run: Finished
) -> None:
    finished_run(tmp_path / "runs")
    plan = plan_of(tmp_path, with_toy(), output=tmp_path / "runs")
    first, second, third, *_ = plan.jobs.values()
    for job, pid in ((first, os.getpid()), (second, 2**22 - 7)):
        folder = plan.store.folder(job.id)
        (folder / "result.json").unlink()
        about = {"done": 1, "total": 4, "unit": "epoch", "best": 0.5, "started": time.time() - 10}
        about |= {"updated": time.time(), "host": os.uname().nodename, "pid": pid}
        (folder / "progress.json").write_text(json.dumps(about))
        assert read_progress(folder) is not None
    (plan.store.folder(third.id) / "result.json").unlink()
    plan.store.log_failure(third, ValueError("no room"))
    (run,) = read_runs(tmp_path / "runs", registry())
    assert [job.state for job in run.jobs[:3]] == ["running", "interrupted", "failed"]
    _, out, _ = call("status", tmp_path / "runs")
    assert "ValueError: no room" in out
    assert "left" in out


def test_the_time_left_of_a_resumed_fit_counts_only_the_steps_of_this_process(tmp_path: Path) -> None:
    writer = ProgressFile(tmp_path)
    writer.report(Progress(1001, 2000))
    begun = read_progress(tmp_path)
    assert begun is not None
    later = replace(begun, done=1100, updated=begun.started + 10)
    assert JobStatus("a" * 64, "a fit", 8, "running", later).seconds_left == pytest.approx(90)


def test_only_the_first_to_fail_are_listed(tmp_path: Path, call: Call, finished_run: Finished) -> None:
    finished_run(tmp_path / "runs")
    plan = plan_of(tmp_path, with_toy(), output=tmp_path / "runs")
    first, *others = list(plan.jobs.values())[:4]
    for job in (first, *others):
        (plan.store.folder(job.id) / "result.json").unlink()
        before = "" if job is first else "its pre-training failed: "
        plan.store.log_failure(job, RunError(f"{before}ValueError: no room"))
    _, out, _ = call("status", tmp_path / "runs")
    assert out.count("no room") == 1
    assert out.endswith("  failed because of them: 3\n")


def test_a_number_that_was_given_to_another_process_is_not_taken_for_the_one_that_ran(tmp_path: Path) -> None:
    assert is_running(os.getpid(), mark(os.getpid()))
    assert is_running(os.getpid(), "")
    assert not is_running(os.getpid(), mark(1))
    assert not any(is_running(pid, "") for pid in (0, -1, 2**22 - 7, 2**80))
    ended = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    known = mark(ended.pid)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and its exit code was not read
    assert not is_running(ended.pid, known)
    ended.wait()
    ProgressFile(tmp_path).begin()
    progress = read_progress(tmp_path)
    assert progress is not None
    assert is_alive(progress)
    assert not is_alive(replace(progress, process=mark(1)))


@pytest.mark.parametrize("wrong", [{"done": "many"}, {"pid": None}, {"started": float("nan")}, {"total": []}])
def test_progress_of_another_form_is_none(tmp_path: Path, wrong: dict[str, object]) -> None:
    ProgressFile(tmp_path).begin()
    file = tmp_path / "progress.json"
    assert read_progress(tmp_path) is not None
    file.write_text(json.dumps({**json.loads(file.read_text()), **wrong}))
    assert read_progress(tmp_path) is None


def test_status_knows_the_jobs_of_every_part_that_was_run(tmp_path: Path) -> None:
    def part(*tasks: str, **options: Any) -> Plan:
        plan = plan_of(tmp_path, with_toy(), tasks=tasks, output=tmp_path / "runs", **options)
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_plan(plan)
        return plan

    def known() -> set[str]:
        (run,) = read_runs(tmp_path / "runs", registry())
        return {job.id for job in run.jobs}

    first, second = part("B from poisson"), part("C from mixed", seeds=2)
    assert known() == {*first.jobs, *second.jobs}
    file = first.folder / "plan-tiny.json"
    written = file.read_bytes()
    part("B from poisson")
    assert file.read_bytes() == written
    other = part("B from poisson", extend=1)  # other points of the same names, and the same trials
    assert known() == {*other.jobs, *second.jobs}
    assert not known() >= first.jobs.keys()
    file.write_text(file.read_text().replace('"version": 1', '"version": 0'))
    part("B from poisson")
    assert known() == {*first.jobs}


@pytest.mark.parametrize("text", ["{}", "[]", "\udcff", '{"suite": 1, "model": "m", "profile": "p", "jobs": []}', ""])
def test_a_plan_of_another_form_is_left_out(tmp_path: Path, call: Call, text: str) -> None:
    jobs = [{"id": "0" * 64, "label": "fit", "passes": "many"}]
    path = tmp_path / "suite" / "model" / "plan.json"
    path.parent.mkdir(parents=True)
    plan = text or json.dumps({"suite": "s", "model": "m", "profile": "p", "jobs": jobs})
    path.write_text(plan, errors="surrogateescape")
    code, out, err = call("status", tmp_path)
    assert (code, out) == (0, "")
    assert "no runs" in err


def test_clean_deletes_only_what_no_later_run_uses(tmp_path: Path, call: Call, finished_run: Finished) -> None:
    first = finished_run(tmp_path / "runs")
    store = JobStore(tmp_path / "runs")
    kept = {path for path in (tmp_path / "runs").rglob("*") if path.is_file()}
    loser = next(t.job_id for r in first.records for t in r.trials if not store.model(t.job_id).exists())
    for folder in (store.model(loser), store.workspace(loser)):
        folder.mkdir()
        (folder / "data").write_bytes(b"x" * 1000)
    for name in ("progress.json", "result.damaged.json"):
        (store.folder(loser) / name).write_text("left over")
    for name, age in ((".abc.partial", 7200), (".new.partial", 0)):
        (tmp_path / "runs" / name).write_text("half")
        os.utime(tmp_path / "runs" / name, (time.time() - age,) * 2)
    kept.add(tmp_path / "runs" / ".new.partial")  # somebody may be writing it
    found = {item.path.name for item in deletable(tmp_path / "runs") if not item.useful}
    assert found == {"model", "workspace", ".abc.partial", "progress.json", "result.damaged.json"}
    _, out, _ = call("clean", tmp_path / "runs")
    assert "can be deleted" in out
    assert store.model(loser).exists()
    call("clean", tmp_path / "runs", "--yes")
    assert {path for path in (tmp_path / "runs").rglob("*") if path.is_file()} == kept
    assert not run_in(tmp_path / "runs", plan_of(tmp_path, with_toy())).changed


def test_clean_keeps_chosen_weights_and_interrupted_fits_unless_told(
    tmp_path: Path, call: Call, finished_run: Finished
) -> None:
    runs = tmp_path / "runs"
    finished_run(runs)
    interrupted = JobStore(runs).workspace("0" * 64)
    interrupted.mkdir(parents=True)
    (interrupted / "resume.pt").write_bytes(b"x" * 1000)
    weights = {path.parent for path in runs.glob("jobs/*/model")}
    assert weights
    _, _, err = call("clean", runs, "--yes")
    assert "weights that points chose" in err
    assert "interrupted fits" in err
    assert interrupted.exists()
    call("clean", runs, "--yes", "--weights")
    assert not list(runs.glob("jobs/*/model"))
    assert not interrupted.exists()
    assert not run_in(runs, plan_of(tmp_path, with_toy())).changed  # the results are all there


def test_status_looks_into_folders_of_many_runs(tmp_path: Path, call: Call, finished_run: Finished) -> None:
    for name in ("first", "second"):
        finished_run(tmp_path / "all" / name)
    assert len(read_runs(tmp_path / "all", registry())) == 2
    code, out, _ = call("status", tmp_path / "all")
    assert (code, len(out.splitlines())) == (0, 2)
    code, out, err = call("status", tmp_path / "all" / "first" / "jobs")
    assert (code, out) == (0, "")
    assert "no runs" in err


def queue_of(output: Path) -> dict[str, QueuedJob]:
    """What a cluster says of the jobs in a file of the folder."""
    jobs = (output / "submitted").read_text().split()
    return {id: QueuedJob(f"7_{number % 100}", "PENDING", output / "log") for number, id in enumerate(jobs)}


def with_cluster(queue: str | Callable[[Path], dict[str, QueuedJob]] = queue_of) -> Registry:
    return with_toy().with_entry(
        "executors", ExecutorEntry("cluster", "1", "nowhere:Cluster", "elsewhere", queue=queue)
    )


def test_what_executors_have_submitted_is_shown_with_task_state_and_log(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_toy())
    plan.store = JobStore(tmp_path / "runs")
    plan.folder.mkdir(parents=True)
    write_plan(plan)
    first, second, third, *_ = plan.jobs.values()
    (tmp_path / "runs" / "submitted").write_text(f"{first.id} {second.id}")
    plan.store.folder(first.id).mkdir(parents=True)
    (plan.store.folder(first.id) / "result.json").write_text("{}")
    (run,) = read_runs(tmp_path / "runs", with_cluster())
    found = {job.id: job for job in run.jobs}
    assert [found[job.id].state for job in (first, second, third)] == ["done", "queued", "waiting"]
    assert [found[job.id].task for job in (first, second, third)] == ["7_0", "7_1", ""]
    assert (found[second.id].queue, found[second.id].log) == ("PENDING", str(tmp_path / "runs" / "log"))
    shown = CliRunner().invoke(status, [str(tmp_path / "runs")], obj=with_cluster())
    assert "queued: 1 PENDING" in shown.stdout


@pytest.mark.parametrize("queue", ["nowhere:queue", "os:sep", queue_of])
def test_an_executor_that_cannot_say_what_is_queued_is_one_line_and_the_files_are_read(
    tmp_path: Path,
    queue: str | Callable[[Path], dict[str, QueuedJob]],
    caplog: pytest.LogCaptureFixture,
    finished_run: Finished,
) -> None:
    finished_run(tmp_path / "runs")  # there is no file "submitted"
    (run,) = read_runs(tmp_path / "runs", with_cluster(queue))
    assert run.count("done") == len(run.jobs)
    (line,) = caplog.messages
    assert line.startswith("executor cluster does not say what is queued: ")
    assert "\n" not in line


def test_a_folder_is_read_without_the_plugin_that_submitted_its_jobs(tmp_path: Path, finished_run: Finished) -> None:
    finished_run(tmp_path / "runs")
    (run,) = read_runs(tmp_path / "runs", Registry([]))
    assert run.count("done") == len(run.jobs)


def test_thousands_of_jobs_are_read_in_a_second(tmp_path: Path) -> None:
    ids = [f"{number:064x}" for number in range(3000)]
    for number, id in enumerate(ids):
        folder = tmp_path / "jobs" / id
        (folder / "model").mkdir(parents=True)
        (folder / ("result.json" if number % 2 else "failure.log")).write_text("no room\n")
    plan = tmp_path / "suite" / "model" / "plan.json"
    plan.parent.mkdir(parents=True)
    jobs = [{"id": id, "label": id, "passes": 1} for id in ids]
    plan.write_text(json.dumps({"suite": "suite", "model": "model", "profile": "paper", "jobs": jobs}))
    (tmp_path / "submitted").write_text(" ".join(ids[:1000]))
    (tmp_path / "slurm").mkdir()
    write_submission(tmp_path / "slurm", [f"8_{n}" for n in range(100)], [ids[1000 + n :: 100] for n in range(100)])
    start = time.process_time()
    (run,) = read_runs(tmp_path, with_cluster())
    assert time.process_time() - start < 1
    assert (run.count("done"), run.count("queued"), run.count("failed")) == (1500, 500, 1000)
