"""Fits on a real Slurm of one node, disturbed again and again, end with the weights of undisturbed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pdebench_fm.run.progress import read_progress
from pdebench_fm.run.queue import queued
from tests.support import same_records
from tests.support.command import UNET, end, long_suite, start, wait_until

pytestmark = pytest.mark.slurm

STEPS = int(os.environ.get("PDEFM_TEST_STEPS", "6000"))  # a minute or two of fitting: longer than the time limit
SETTINGS = {"time": 1, "notice": 10, "tasks": 4, "poll": 1.0}
ON_SLURM = (
    "--executor",
    "slurm",
    *(part for pair in SETTINGS.items() for part in ("--executor-set", f"{pair[0]}={pair[1]}")),
)
PATIENCE = 600.0


@pytest.fixture
def undisturbed(tmp_path: Path) -> Path:
    """The same run in one process."""
    long_suite(tmp_path, STEPS)
    run = start("run", "tiny.yaml", *UNET, "--executor", "debug", "--output", "undisturbed", folder=tmp_path)
    _, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    return tmp_path / "undisturbed"


class Disturbed:
    """A run on Slurm, started again whenever it has ended or was killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "disturbed"
        self.starts = 0
        self.begin()

    def begin(self) -> None:
        self.starts += 1
        self.driver = start("run", "tiny.yaml", *UNET, *ON_SLURM, "--output", "disturbed", folder=self.folder)

    def fitting(self) -> Path | None:
        """The folder of a job that has written a state and goes on."""
        if self.driver.poll() is not None:
            self.begin()
        for progress in self.output.glob("jobs/*/progress.json"):
            found = read_progress(progress.parent)
            if found and time.time() - found.seen < 15 and list(progress.parent.glob("workspace/resume*.pt")):
                return progress.parent
        return None

    def task(self) -> str:
        """A Slurm task that runs."""
        running: list[str] = []
        wait_until(
            lambda: (
                running.extend(task for task, (state, _) in (queued() or {}).items() if state == "RUNNING") or running
            ),
            "a task",
            PATIENCE,
        )
        return running[0]

    def finish(self) -> None:
        """Run the command until nothing is left."""
        for _ in range(5):
            out, err = self.driver.communicate(timeout=PATIENCE)
            if self.driver.returncode == 0:
                return
            assert self.driver.returncode == 3, err  # some points failed: what was cancelled
            self.begin()
        raise AssertionError(out + err)


def preempt(run: Disturbed) -> None:
    """A more urgent job takes the whole node for a moment."""
    subprocess.run(
        ["sbatch", "--partition", "urgent", "--exclusive", "--output", "/dev/null", "--wrap", "sleep 1"], check=True,
        capture_output=True,
    )  # fmt: skip


def cancel(run: Disturbed) -> None:
    """Somebody cancels a task."""
    subprocess.run(["scancel", run.task()], check=True)


def restart_slurmd(run: Disturbed) -> None:
    """The node's daemon is killed and comes back."""
    pid = Path(os.environ["SLURM_CONF"]).with_name("slurmd.pid")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    time.sleep(1)
    subprocess.run(["slurmd"], check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})


def kill_driver(run: Disturbed) -> None:
    """The command is killed, and given again."""
    os.kill(run.driver.pid, signal.SIGKILL)
    run.driver.communicate(timeout=10)
    run.begin()


def kill_fit(run: Disturbed) -> None:
    """The process of the fit is killed."""
    folder = run.fitting()
    found = folder and read_progress(folder)
    if found:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(found.pid, signal.SIGKILL)


DISTURBANCES = (preempt, kill_driver, cancel, restart_slurmd, kill_fit)


def test_a_fit_survives_ten_disturbances_to_the_bit(slurm: None, undisturbed: Path, tmp_path: Path) -> None:
    run = Disturbed(tmp_path)
    try:
        for number in range(10):
            wait_until(run.fitting, "a fit with a state", PATIENCE)
            DISTURBANCES[number % len(DISTURBANCES)](run)
        run.finish()
    finally:
        end(run.driver.pid)
        run.driver.communicate()
    logs = "".join(path.read_text() for path in run.output.glob("slurm/*_log.out"))
    print(f"{logs.count('queued again')} times queued again before a limit, {run.starts} starts of the command")
    assert "queued again" in logs  # the time limit came, too
    assert same_records.main(str(undisturbed), str(run.output)) == 0
    weights = [
        sorted(path.relative_to(output) for path in output.glob("jobs/*/model/*"))
        for output in (undisturbed, run.output)
    ]
    assert weights[0] == weights[1] != []
    for path in weights[0]:
        assert (undisturbed / path).read_bytes() == (run.output / path).read_bytes()
    histories = [path.relative_to(undisturbed) for path in undisturbed.glob("jobs/*/history.jsonl")]
    assert histories
    for path in histories:
        assert (undisturbed / path).read_text() == (run.output / path).read_text()
