"""The command ``pdefm`` as a user has it: a process of its own, with a small suite and nothing from our environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pdebench_fm._util.environment import DEBUG, LOG_FILE, PLUGINS, VERBOSE

PATIENCE = 600.0
"""Seconds after which a test gives up. Only a failure waits so long, and a busy machine must not look like one."""
PDEFM = (sys.executable, "-m", "pdebench_fm.cli")
EACH = """
import json, sys
from pdebench_fm.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as ended:
        for stream in (sys.stdout, sys.stderr):
            print(end=f"\\0{ended.code}\\0", file=stream, flush=True)
"""
"""A program that runs ``pdefm`` with each of the arguments it is given, see `program_of` and `said_by_each`."""
UNET = ("--model", "unet", "--set", "width=4", "--set", "levels=1")
REGRESSION = ("--model", "mode-regression", "--set", "modes=4")

SUITE = """\
name: tiny
version: 1
description: One transfer, in seconds.
default_profile: tiny
distributions:
  A: {system: poisson, eigenvalue: [1, 5]}
  B: {system: poisson, eigenvalue: [5, 10]}
pretraining:
  poisson: [A]
tasks:
  - {name: B from A, pretraining: poisson, downstream: B, shift: med}
protocols: [zero-shot, fine-tune, scratch]
profiles:
  tiny:
    grid: 16
    examples: {pretraining: 16, validation: 8, test: 8, downstream: [4, 8]}
    training: {epochs: 2, batch_size: 8, learning_rates: [1e-3, 1e-2]}
    fine_tuning: {epochs: 2, learning_rates: [1e-4, 1e-3]}
"""


@contextmanager
def own_environment() -> Iterator[None]:
    """Forget at the end what the options of a command set: tests run many commands in one process."""
    before = {name: os.environ.get(name) for name in (DEBUG, VERBOSE, LOG_FILE, PLUGINS)}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def write_suite(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the suite into ``folder``, each (old, new) replaced, and return its path."""
    text = SUITE
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def long_suite(folder: Path, steps: int) -> Path:
    """One point that can be scored at once, and one whose only fit takes ``steps`` steps."""
    return write_suite(
        folder,
        ("[zero-shot, fine-tune, scratch]", "[scratch]"),
        ("downstream: [4, 8]", "downstream: [8]"),
        ("{epochs: 2, learning_rates: [1e-4, 1e-3]}", f"{{steps: {steps}, learning_rates: [1e-3]}}"),
        ("[1e-3, 1e-2]", "[1e-3]"),
    )


def environment(**more: str) -> dict[str, str]:
    """Environment of a command: one thread, and no opinion on colours or widths but those given."""
    ours = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "PYTEST_CURRENT_TEST")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "TERM": "xterm-256color", **more}


def pdefm(*arguments: object, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in ``folder``."""
    return subprocess.run(
        [*PDEFM, *map(str, arguments)],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def program_of(*commands: Sequence[object]) -> list[str]:
    """Return arguments of Python that run ``pdefm`` several times, in one process: starting one takes seconds."""
    return ["-c", EACH, json.dumps([[*map(str, command)] for command in commands])]


def said_by_each(done: subprocess.CompletedProcess[str]) -> list[tuple[int, str, str]]:
    """Return the exit code, standard output and standard error of each command of `program_of`."""
    (*out, _), (*err, rest) = done.stdout.split("\0"), done.stderr.split("\0")
    assert (done.returncode, rest) == (0, ""), done.stderr
    return [(int(code), said, also) for said, code, also in zip(out[::2], out[1::2], err[::2], strict=True)]


def start(*arguments: object, folder: Path, **more: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own, on two cores at most, as in CI: two workers then have a thread each."""
    return subprocess.Popen(
        [*PDEFM, *map(str, arguments)],
        cwd=folder,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_on_two_cores,
    )


def _on_two_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


def end(session: int) -> None:
    """End whatever a failed test may have left of a session."""
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until the condition holds; fail where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)


def alive(session: int) -> list[int]:
    """Processes of a session that have not ended (Linux)."""
    return [*parents(session)]


def parents(session: int) -> dict[int, int]:
    """Processes of a session that have not ended, each with its parent (Linux)."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found[int(stat.parent.name)] = int(fields[1])
    return found


def command_line(process: int) -> str:
    """How a process was started; empty where it has just ended (Linux)."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_text()
    return ""
