"""A small network and a small suite: quick enough to run whole in a test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.problem import Problem
from pdebench_fm.records.record import Record
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.run.runner import RunResult, run_plan
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.training import NetworkModel, planes


class ToyNetwork(nn.Module):
    """Two convolutions with tanh between."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.lift = nn.Conv2d(channels, width, 3, padding=1, padding_mode="circular")
        self.project = nn.Conv2d(width, outputs, 3, padding=1, padding_mode="circular")

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        return self.project(torch.tanh(self.lift(planes(fields, constants))))


class Toy(NetworkModel):
    """Two convolutions."""

    def __init__(self, width: int = 4) -> None:
        self.width = width

    def build(self, problem: Problem) -> nn.Module:
        return ToyNetwork(len(problem.inputs), self.width, len(problem.outputs))


TOY = ModelEntry("toy", "1", Toy, "two convolutions")

SUITE = """\
name: toy
version: 1
description: Two small tasks.
default_profile: tiny
distributions:
  A: {system: poisson, eigenvalue: [1, 5]}
  B: {system: poisson, eigenvalue: [5, 10]}
  C: {system: helmholtz, wavenumber: [5, 6]}
pretraining:
  poisson: [A]
  mixed: [A, C]
tasks:
  - {name: B from poisson, pretraining: poisson, downstream: B, shift: med}
  - {name: C from mixed, pretraining: mixed, downstream: C, shift: none}
protocols: [zero-shot, fine-tune, scratch]
profiles:
  tiny:
    grid: 16
    examples: {pretraining: 16, validation: 8, test: 8, downstream: [4, 8]}
    training: {epochs: 2, batch_size: 8, learning_rates: [1e-3, 1e-2]}
    fine_tuning: {epochs: 2, learning_rates: [1e-4, 1e-3]}
"""


def toy_suite(folder: Path, extend: int = 0) -> Path:
    """Write the suite into ``folder`` and return its path."""
    path = folder / "toy.yaml"
    path.write_text(SUITE + (f"    extend: {extend}\n" if extend else ""), encoding="utf-8")
    return path


def plan_of(folder: Path, registry: Registry, model: str = "toy", *, extend: int = 0, **options: object) -> Plan:
    """Write the suite into ``folder`` and plan a run of it."""
    suite = load_suite(toy_suite(folder, extend), registry)
    return make_plan(suite, "tiny", model_spec(registry, model), registry, **options)  # type: ignore[arg-type]


def mixed_weights(output: Path, records: Sequence[Record]) -> Path:
    """Return the weights that a run of the suite kept of its pre-training ``mixed``, which all tasks can start from."""
    (record,) = [record for record in records if (record.kind, record.task) == ("pretraining", "mixed")]
    kept = [output / "jobs" / trial.job_id / "model" / "model.safetensors" for trial in record.trials]
    return next(path for path in kept if path.is_file())


def run_in(output: Path, plan: Plan, **options: object) -> RunResult:
    """Run a plan with its results in a folder."""
    plan.store = JobStore(output)
    return run_plan(plan, **options)  # type: ignore[arg-type]
