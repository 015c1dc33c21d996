"""Fit two networks in each process of a world, and write what came of them into a folder, one file a rank.

python -m tests.support.ranks FOLDER
torchrun --standalone --nproc-per-node 2 -m tests.support.ranks FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.run.distributed import World, join_world
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import fit_network
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8))


class Branching(nn.Module):
    """A part of it is needed by some examples only, and it keeps a mean of what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.rarely = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.complex64))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if self.training:
            self.seen = 0.9 * self.seen + 0.1 * fields.mean()
        rare = constants[:, :1] > 1.3
        found: Tensor = self.always(fields)
        if rare.any():
            found = found + self.rarely(fields) * rare[:, :, None, None]
        return found


def toy(folder: Path, world: World, batch_size: int) -> dict[str, Any]:
    """50 steps, the last of every epoch on a single example."""
    train, validation = SmoothExamples(PROBLEM, 11), SmoothExamples(PROBLEM, 7, seed=1)
    model = Toy()
    model.initialise(PROBLEM, train, 0)
    context = FitContext(folder, rank=world.rank, ranks=world.size)
    settings = TrialSettings({"learning_rate": 1e-2}, seed=3)
    report = model.fit(train, validation, Budget(None, 50, batch_size), settings, context)
    return {
        "best_epoch": report.best_epoch,
        "losses": [entry["train_loss"] for entry in report.history],
        "weights": [parameter.flatten().tolist() for parameter in model.network.parameters()],
    }


def branching(folder: Path, world: World) -> dict[str, list[float]]:
    torch.manual_seed(0)
    network = Branching()
    fit_network(
        network,
        lambda examples, inputs: (inputs["source"][:, None], inputs["k11"][:, None]),
        ("solution",),
        SmoothExamples(PROBLEM, 12),
        SmoothExamples(PROBLEM, 7, seed=1),
        Budget(None, 40, 2),
        TrialSettings({"learning_rate": 1e-1}, seed=3),
        FitContext(folder, rank=world.rank, ranks=world.size),
    )
    return {name: torch.view_as_real(value + 0j).flatten().tolist() for name, value in network.state_dict().items()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    world = join_world("cpu")
    found: dict[str, Any] = {}
    for name, batch_size in (("toy", 5), ("toy, one example a step", 1)):
        workspace = folder / f"workspace-{name}-{world.size}"
        workspace.mkdir(parents=True, exist_ok=True)
        found[name] = toy(workspace, world, batch_size)
    workspace = folder / f"workspace-branching-{world.size}"
    workspace.mkdir(parents=True, exist_ok=True)
    found["branching"] = branching(workspace, world)
    (folder / f"rank-{world.rank}-of-{world.size}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
