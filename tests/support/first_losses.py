"""Print the first 50 training losses of fno-64k on the mixture of the suite ``mixed``, profile smoke, as JSON.

python -m tests.support.first_losses
torchrun --standalone --nproc-per-node 2 -m tests.support.first_losses
"""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from pdebench_fm.errors import RunError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry.discovery import registry
from pdebench_fm.run.distributed import World, join_world
from pdebench_fm.run.worker import Setting, Work, Worker
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.training import loop

COUNT = 50


class _EnoughError(Exception):
    pass


def first_losses(world: World) -> list[float]:
    """Begin the pre-training as a run does, and break it off."""
    found = registry()
    plan = make_plan(load_suite("mixed", found), "smoke", model_spec(found, "fno-64k"), found)
    trial = next(job for job in plan.jobs.values() if job.label.startswith("pre-training mixed · learning_rate"))
    losses: list[float] = []
    step = loop._Fit._step

    def recorded(fit: loop._Fit, ids: np.ndarray) -> float:
        losses.append(step(fit, ids))
        if len(losses) == COUNT:
            raise _EnoughError
        return losses[-1]

    loop._Fit._step = recorded  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Setting("losses", found, JobStore(Path(folder)), "cpu", world=world))
        with suppress(RunError):
            worker.do(Work(trial, {}))
        if len(losses) == COUNT:
            return losses
    raise AssertionError("the pre-training ended before")


if __name__ == "__main__":
    torch.set_num_threads(1)
    world = join_world("cpu")
    found = first_losses(world)
    if world.is_main:
        print(json.dumps(found))
