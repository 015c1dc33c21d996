"""Workers as copies of a process that has loaded their modules (Linux), each test in a program of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are copies on Linux alone")

PERFORM = """
import os, sys, time
import numpy as np
import torch

WORD = os.environ.get("PDEFM_TEST_WORD")  # as it is when this module is imported


def perform(job, report):
    time.sleep(0.5)  # so that the other worker takes the other job
    copy = "pdebench_fm.run.loaded" in sys.modules
    return {"copy": copy, "word": WORD, "draw": [float(np.random.random()), float(torch.rand(()))], "pid": os.getpid()}
"""
SCRIPT = """
import json, os, sys
from dataclasses import dataclass
from multiprocessing import forkserver, get_context

from pdebench_fm.run.executors import ProcessExecutor, begin_loading, is_loading


@dataclass(frozen=True)
class Job:
    id: str
    parents: tuple[str, ...] = ()


def no_place():
    raise OSError("AF_UNIX path too long")


def told(**options):
    from jobs_of_a_test import perform  # not above: what a program imports there, its workers do before they begin

    jobs = [Job("a"), Job("b")]
    executor = ProcessExecutor(2, **options)
    return [outcome for _, outcome in executor.run(jobs, perform, lambda job, progress: None)]


if __name__ == "__main__":
    for name, value in json.loads(sys.argv[1]).items():
        os.environ[name] = value
    print(json.dumps([{BODY}]))
"""
Ask = Callable[..., list[Any]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Evaluate expressions in a fresh program, in the folder ``here``."""
    (tmp_path / "program").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "program" / "jobs_of_a_test.py").write_text(PERFORM)

    def evaluate(*expressions: str, **environment: str) -> list[Any]:
        program = tmp_path / "program" / "program.py"
        program.write_text(SCRIPT.replace("{BODY}", ", ".join(expressions)))
        command = [sys.executable, str(program), json.dumps(environment)]
        done = subprocess.run(command, cwd=tmp_path / "here", capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        found: list[Any] = json.loads(done.stdout)
        return found

    return evaluate


def is_copy(told: list[dict[str, Any]]) -> list[bool]:
    return [one["copy"] for one in told]


def test_they_are_copies_with_their_own_environment_and_numbers(ask: Ask) -> None:
    run = "told(copies=True)"
    _, first, _, second = ask("begin_loading()", run, "os.environ.pop('PDEFM_TEST_WORD')", run, PDEFM_TEST_WORD="now")
    assert is_copy(first + second) == [True] * 4
    assert [one["word"] for one in first + second] == ["now", "now", None, None]
    assert len({draw for one in first + second for draw in one["draw"]}) == 8
    assert len({one["pid"] for one in first + second}) == 4


@pytest.mark.parametrize("options", ["", "copies=True, threads=2"])
def test_otherwise_they_are_fresh(ask: Ask, options: str) -> None:
    assert is_copy(ask("begin_loading()", f"told({options})")[1]) == [False, False]


def test_nobody_else_starts_such_a_process(ask: Ask) -> None:
    assert is_copy(ask("told(copies=True)")[0]) == [False, False]


def test_a_fork_server_of_somebody_elses_is_not_used(ask: Ask) -> None:
    use = ["process := get_context('forkserver').Process(target=os.getpid)", "process.start()", "process.join()"]
    *_, found = ask(f"[{', '.join(use)}] and None", "begin_loading()", "told(copies=True)")
    assert is_copy(found) == [False, False]


def test_where_there_is_no_place_for_its_socket_they_are_fresh(ask: Ask) -> None:
    broken = "setattr(forkserver, 'ensure_running', no_place)"
    _, _, begun, found = ask(broken, "begin_loading()", "is_loading()", "told(copies=True)")
    assert not begun
    assert is_copy(found) == [False, False]


def test_modules_come_from_where_the_program_has_them(ask: Ask, tmp_path: Path) -> None:
    for name in ("numpy", "torch", "pdebench_fm"):
        (tmp_path / "here" / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    assert is_copy(ask("begin_loading()", "told(copies=True)")[1]) == [True, True]
