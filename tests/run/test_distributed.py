"""Two processes on the CPU train as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.errors import UsageError
from pdebench_fm.run.distributed import World, device_of_rank
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import launch
from tests.support.ranks import PROBLEM, main


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """What one process made, and each of two."""
    folder = tmp_path_factory.mktemp("ranks")
    main(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONWARNINGS", "ignore")
        patch.chdir(Path(__file__).parents[2])
        assert launch(2, ["-m", "tests.support.ranks", str(folder)]) == 0
    alone, first, second = (
        json.loads((folder / f"rank-{name}.json").read_text()) for name in ("0-of-1", "0-of-2", "1-of-2")
    )
    return alone, first, second


@pytest.mark.parametrize("name", ["toy", "toy, one example a step"])
def test_two_processes_take_the_steps_of_one(found: tuple[Any, Any, Any], name: str) -> None:
    alone, first, second = (each[name] for each in found)
    assert first["best_epoch"] == alone["best_epoch"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-4)
    for mine, expected in zip(first["weights"], alone["weights"], strict=True):
        assert mine == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert second["weights"] == first["weights"]  # to the bit


def test_idle_parameters_are_left_alone_and_buffers_agree(found: tuple[Any, Any, Any]) -> None:
    alone, first, second = (each["branching"] for each in found)
    assert first == second
    for name in first.keys() - {"seen"}:  # a mean over each rank's own examples differs
        assert first[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5)
    constants = SmoothExamples(PROBLEM, 12).batch(range(12))[0]["k11"]
    assert 0 < int((constants > 1.3).sum()) < 6  # some batches have none that needs it


def test_a_rank_that_fails_gives_its_exit_code_and_signals_are_handled_as_before() -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    assert launch(2, ["-c", "import os, sys; sys.exit(3 if os.environ['RANK'] == '1' else 0)"]) == 3
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


@pytest.mark.parametrize(("size", "said"), [("2", "exit function\n"), ("1", "exit function\ntorn down\n")])
def test_one_of_several_processes_ends_before_its_interpreter_is_torn_down(size: str, said: str) -> None:
    code = """
import atexit
from pdebench_fm.run.distributed import leave

class Last:
    def __del__(self, say=print):
        say("torn down")

atexit.register(print, "exit function")
last = Last()
leave(3)
"""
    environment = {**os.environ, "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": size}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, said, "")


def test_one_gpu_is_not_enough_for_several_processes() -> None:
    assert device_of_rank("cpu", 7) == "cpu"
    with pytest.raises(UsageError, match="a GPU each"):
        device_of_rank("cuda:0", 1)
    assert World().is_main
    assert World().from_main("x") == "x"
