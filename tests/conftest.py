"""One thread a test process: two of them run side by side, and small tensors gain nothing from more.

And no GPU but for the tests that are marked for one (``pytest -m gpu``): the others hold scores to the digit, which a
GPU computes in another order.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import slurm as slurm_here
from tests.support.command import own_environment

if TYPE_CHECKING:
    from pdebench_fm.run.runner import RunResult

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Time is no claim of these tests: a busy machine would fail them.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    with own_environment():
        yield


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of two nodes, for tests marked ``slurm``; they run when asked for by ``-m slurm``."""
    if request.config.getoption("markexpr") != "slurm":
        pytest.skip("pytest -m slurm starts a Slurm")
    if reason := slurm_here.why_not():
        pytest.skip(reason)
    with slurm_here.two_nodes(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], RunResult]:
    """Copies a finished run of the toy suite into a new folder; it takes a second, and is made once a process."""
    from tests.support.installed import with_toy
    from tests.support.toy import plan_of, run_in

    folder = tmp_path_factory.mktemp("finished")
    made = run_in(folder / "runs", plan_of(folder, with_toy()))

    def copy(output: Path) -> RunResult:
        shutil.copytree(folder / "runs", output)
        return replace(made, folder=output / made.folder.relative_to(folder / "runs"))

    return copy
