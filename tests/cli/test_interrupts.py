"""Stopping a run: Ctrl-C, SIGTERM, a kill that nobody can catch; and what a terminal shows meanwhile."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pdebench_fm.api import score
from pdebench_fm.interfaces import Progress
from pdebench_fm.plan.job import Job
from pdebench_fm.run.prepare import prepare
from pdebench_fm.run.runner import Reporter
from tests.support.command import (
    PATIENCE,
    PDEFM,
    UNET,
    alive,
    end,
    environment,
    long_suite,
    start,
    wait_until,
    write_suite,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")

FOREVER = 10**6
AS_USERS_HEAR = "error,ignore::ResourceWarning"
"""A signal may find a file or socket open that the interpreter then closes; unless asked for, nobody is told."""


@pytest.fixture(autouse=True)
def _ctrl_c_is_not_ignored() -> Iterator[None]:
    """A shell starts background jobs with SIGINT ignored, and their children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run in the test's folder; what it leaves behind where the test fails is ended."""
    runs: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        runs.append(start("run", "tiny.yaml", *UNET, *arguments, folder=tmp_path, PYTHONWARNINGS=AS_USERS_HEAR))
        return runs[-1]

    yield run
    for left in runs:
        end(left.pid)
        left.communicate()


Begin = Callable[..., "subprocess.Popen[str]"]


def fitting(folder: Path) -> list[Path]:
    """Workspaces of fits that are under way."""
    return list((folder / "runs" / "jobs").glob("*/workspace"))


@pytest.mark.parametrize(
    ("number", "code", "workers", "whole_group"),
    [
        (signal.SIGINT, 130, 1, False),  # of two workers, the terminal below
        (signal.SIGTERM, 143, 2, True),
    ],
)
def test_a_signal_ends_the_run_at_once_and_leaves_nobody_behind(
    begin: Begin, tmp_path: Path, number: signal.Signals, code: int, workers: int, whole_group: bool
) -> None:
    long_suite(tmp_path, FOREVER)
    run = begin("--workers", workers, "--device", "cpu")
    wait_until(lambda: fitting(tmp_path), "a fit")
    (os.killpg if whole_group else os.kill)(run.pid, number)
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == code, err
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == {130: "pdefm: interrupted", 143: "pdefm: terminated"}[code]
    wait_until(lambda: not alive(run.pid), "the workers' end")
    assert not list((tmp_path / "runs").glob("jobs/*/failure.log"))


class HearsOnce(Reporter):
    """Remembers the first progress of a fit, and breaks the run off."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}

    def progressed(self, job: Job, progress: Progress) -> None:
        if progress.total and not self.first:
            self.first[job.id] = progress.done
            os.kill(os.getpid(), signal.SIGINT)


def test_after_a_kill_workers_end_by_themselves_and_the_next_run_continues_the_fit(
    begin: Begin, tmp_path: Path
) -> None:
    suite = long_suite(tmp_path, FOREVER)
    run = begin("--workers", 2, "--device", "cpu")
    wait_until(lambda: list((tmp_path / "runs").glob("jobs/*/workspace/resume.pt")), "a resume state")
    os.kill(run.pid, signal.SIGKILL)
    killed = time.time()
    run.communicate(timeout=PATIENCE)
    wait_until(lambda: not alive(run.pid), "the workers' end")
    (resume,) = (tmp_path / "runs").glob("jobs/*/workspace/resume.pt")
    saved = torch.load(resume, weights_only=True)["state"]["step"]
    assert saved > 0
    assert killed - resume.stat().st_mtime < 60  # seconds are lost; more than a few only on a busy machine
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("jobs/*/result.json")}

    hears = HearsOnce()
    (plan,) = prepare("unet", suite, arguments={"width": 4, "levels": 1}, output=tmp_path / "runs", device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(KeyboardInterrupt):
            score(plan, reporter=hears)
    finally:
        torch.set_num_threads(threads)
    assert hears.first[resume.parents[1].name] > saved  # an epoch is one step here
    assert done == {path: path.stat().st_mtime_ns for path in done}


# A terminal --------------------------------------------------------------------------------------------------------


TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C then comes from there, and to the whole group
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A pseudo-terminal with a command on it, as its controlling terminal."""

    def __init__(self, *arguments: object, folder: Path, **more: str) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *PDEFM, *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environment(COLUMNS="160", **more),
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def read(self, seconds: float = 0.2) -> bool:
        """Take in what is shown; False once the command has closed the terminal."""
        if not select.select([self.master], [], [], seconds)[0]:
            return True
        try:
            self.shown += os.read(self.master, 65536).decode(errors="replace")
        except OSError:
            return False
        return True

    def wait_for(self, pattern: str) -> None:
        def seen() -> object:
            assert self.read(), self.shown
            return re.search(pattern, plain(self.shown[-20_000:]))

        try:
            wait_until(seen, f"{pattern!r} on the terminal")
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise

    def end(self) -> int:
        try:
            wait_until(lambda: not self.read(), "the command's end")
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            os.close(self.master)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_terminal_shows_jobs_epoch_best_loss_and_time_left_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """With NO_COLOR, which leaves the bars."""
    path = long_suite(tmp_path, FOREVER)
    path.write_text(path.read_text().replace("name: B from A", "name: '[red]B[/red] \\ [/] :smile:'"))
    terminal = Terminal("run", path, *UNET, "--workers", "2", folder=tmp_path, NO_COLOR="1")
    terminal.wait_for(
        r"\[red\]B\[/red\] \\ \[/\] :smile: · scratch · N=8 · learning_rate=0\.001 .* \d+/1000000 best loss \d"
    )
    terminal.wait_for(r"best loss \d\S*, [\d.]+ (s|min|h) left")
    terminal.wait_for(r"jobs .* 1/3 +[\d.]+ (s|min|h) left")
    assert terminal.process.poll() is None
    os.write(terminal.master, b"\x03")
    assert terminal.end() == 130
    assert plain(terminal.shown).rstrip().endswith("pdefm: interrupted")
    assert "Traceback" not in terminal.shown
    assert terminal.shown.count("\x1b[?25l") == terminal.shown.count("\x1b[?25h") > 0  # the cursor is back
    assert not re.search(r"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9[0-7])[;m]", terminal.shown)
    wait_until(lambda: not alive(terminal.process.pid), "the workers' end")


def test_forced_colour_makes_no_bars_in_a_file(
    tmp_path: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    arguments = ("--model", "zero", "--workers", 1, "--output", tmp_path / "runs")
    code, _, err = call("run", write_suite(tmp_path), *arguments)
    assert code == 0
    assert "\x1b[?25l" not in err  # no bars, whose cursor movements would fill a log file
    assert len(err.splitlines()) == 6 + 2  # jobs, the note on coefficients, the folder
