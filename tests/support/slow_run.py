"""A run whose fits take as long as a test wants: python -m tests.support.slow_run FOLDER debug|slurm [MINUTES]

FOLDER has ``tiny.yaml``; results go to FOLDER/<executor>. While FOLDER/slow exists, every step waits a moment.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from pdebench_fm.api import make_executor
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry import registry
from pdebench_fm.suite.reading import load_suite
from tests.support.toy import TOY, Toy, run_in

SETTINGS = {"notice": 15, "tasks": 4, "poll": 1.0}
_PAUSE = 2.0  # seconds


class SlowToy(Toy):
    """A toy whose fit waits before each step while a file is there."""

    def fit(self, train, validation, budget, trial, context):  # type: ignore[no-untyped-def]
        slow = context.workspace.parents[3] / "slow"

        def wait(module: object, inputs: object) -> None:
            if self.network.training and slow.exists():
                time.sleep(_PAUSE)

        hook = self.network.register_forward_pre_hook(wait)
        try:
            return super().fit(train, validation, budget, trial, context)
        finally:
            hook.remove()


def main(folder: Path, name: str, minutes: int = 1) -> int:
    """Return 0 if everything was scored, else 3, as ``pdefm run`` does."""
    registered = registry().with_model(replace(TOY, factory=SlowToy))
    plan = make_plan(load_suite(folder / "tiny.yaml", registered), "tiny", model_spec(registered, "toy"), registered)
    settings = {**SETTINGS, "time": minutes} if name == "slurm" else {}
    with make_executor(registered, name, settings, output=folder / name) as executor:
        return 0 if run_in(folder / name, plan, executor=executor).complete else 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
