"""A fit on a real Slurm, disturbed again and again, ends with the weights of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pdefm_slurm.queue import queued

from pdebench_fm._util.processes import is_running
from pdebench_fm.run.progress import JobProgress, read_progress
from tests.support import same_records
from tests.support.command import PATIENCE, end, environment, long_suite, wait_until
from tests.support.slurm import SCRIPT

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("slurm")]

STEPS = 600  # twenty minutes while they are slow


REPOSITORY = Path(__file__).parents[3]


def undisturbed(folder: Path) -> float:
    """Make the same run in one process; return the seconds that it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.support.slow_run", str(folder), "debug"]
    subprocess.run(command, env=environment(), cwd=REPOSITORY, check=True)
    return time.monotonic() - began


class Disturbed:
    """A run on Slurm, started again whenever it has ended or was killed."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self.output = folder / "slurm"
        self.begin()

    def begin(self) -> None:
        command = [sys.executable, "-m", "tests.support.slow_run", str(self.folder), "slurm", str(self.limit)]
        self.driver = subprocess.Popen(
            command, env=environment(), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def fit(self) -> JobProgress:
        """Wait for a fit that gets on."""
        found: list[JobProgress] = []
        wait_until(lambda: found.extend(self._fits()) or found, "a fit")
        return found[0]

    def _fits(self) -> Iterator[JobProgress]:
        if self.driver.poll() is not None:
            self.driver.communicate()  # closes its pipe
            self.begin()
        for folder in {path.parent for path in self.output.glob("jobs/*/progress.json")}:
            found = read_progress(folder)
            if found and found.done and is_running(found.pid, found.process):
                yield found

    def running(self) -> list[str]:
        """Wait until tasks run, and return them."""
        found: list[str] = []
        wait_until(
            lambda: found.extend(task for task, (state, _) in (queued() or {}).items() if state == "RUNNING") or found,
            "a task",
        )
        return found

    def requeued(self) -> int:
        """How often a task has queued itself again."""
        return sum(path.read_text().count("queued again") for path in self.output.glob("slurm/*_log.out"))

    def finish(self) -> None:
        """Run the command until nothing is left, with time enough."""
        self.limit = 30
        for task in queued() or ():
            subprocess.run(["scontrol", "update", f"jobid={task}", f"timelimit={self.limit}"], check=False)
        for _ in range(5):
            _, err = self.driver.communicate(timeout=PATIENCE)
            if self.driver.returncode == 0:
                return
            assert self.driver.returncode == 3, err  # some points failed: what was cancelled
            self.begin()
        raise AssertionError(err)


def preempt(run: Disturbed, fit: JobProgress) -> None:
    """A more urgent job takes both nodes for a moment."""
    command = ["sbatch", "--partition", "urgent", "--nodes", "2", "--exclusive", "--output", "/dev/null"]
    subprocess.run([*command, "--wrap", "sleep 1"], check=True, capture_output=True)


def cancel(run: Disturbed, fit: JobProgress) -> None:
    """A user cancels the task."""
    subprocess.run(["scancel", *run.running()], check=True)


def kill_fit(run: Disturbed, fit: JobProgress) -> None:
    """The process of the fit is killed."""
    os.kill(fit.pid, signal.SIGKILL)


def wait_for_the_limit(run: Disturbed, fit: JobProgress) -> None:
    """The task runs until its time is nearly over."""
    before = run.requeued()
    wait_until(lambda: run.requeued() > before, "the time limit")


def restart_slurmd(run: Disturbed, fit: JobProgress) -> None:
    """The daemons of both nodes are killed and come back."""
    for path in Path(os.environ["SLURM_CONF"]).parent.glob("slurmd-*.pid"):
        os.kill(int(path.read_text()), signal.SIGKILL)
        time.sleep(0.5)
        node = path.stem.removeprefix("slurmd-")
        subprocess.run([SCRIPT, "slurmd", path.parent, node], check=True)


def kill_driver(run: Disturbed, fit: JobProgress) -> None:
    """The command is killed, and given again."""
    os.kill(run.driver.pid, signal.SIGKILL)
    run.driver.communicate(timeout=PATIENCE)
    run.begin()


ENDS_THE_FIT = (preempt, cancel, kill_fit, wait_for_the_limit)
LEAVES_THE_FIT = (kill_driver, restart_slurmd)
ORDER = (preempt, kill_driver, cancel, restart_slurmd, kill_fit, wait_for_the_limit, preempt, kill_driver, cancel,
         restart_slurmd, kill_fit)  # fmt: skip


def test_a_fit_survives_eleven_disturbances_to_the_bit(tmp_path: Path) -> None:
    long_suite(tmp_path, STEPS)
    limit = 1 + round(undisturbed(tmp_path) / 15)  # minutes: a task gets on even if this machine is busy
    (tmp_path / "slow").touch()
    run = Disturbed(tmp_path, limit)
    done: Counter[str] = Counter()
    try:
        for disturb in ORDER:
            fit = run.fit()
            disturb(run, fit)
            if disturb in ENDS_THE_FIT:
                wait_until(lambda fit=fit: not is_running(fit.pid, fit.process), "the end of the fit")  # type: ignore[misc]
            done[disturb.__name__] += 1
            print(f"{disturb.__name__} at {fit.done} of {fit.total}", flush=True)
        (tmp_path / "slow").unlink()
        run.finish()
    finally:
        end(run.driver.pid)
        run.driver.communicate()
    assert done.total() >= 10
    assert run.requeued() >= 1
    assert same_records.main(str(tmp_path / "debug"), str(run.output)) == 0
    for pattern in ("jobs/*/model/*", "jobs/*/history.jsonl"):
        expected = {
            path.relative_to(tmp_path / "debug"): path.read_bytes() for path in (tmp_path / "debug").glob(pattern)
        }
        assert expected
        assert {path.relative_to(run.output): path.read_bytes() for path in run.output.glob(pattern)} == expected
