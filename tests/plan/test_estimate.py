"""What a plan will cost: every job once, sorted into parts, and nothing for what is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn

from pdebench_fm.errors import RunError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.plan.estimate import estimate
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.model import Weights, model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.problem import Problem
from pdebench_fm.registry import registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.training import NetworkModel
from tests.support.installed import with_toy
from tests.support.toy import Toy, toy_suite

REGISTRY = with_toy()


def toy_plan(folder: Path) -> Plan:
    return make_plan(load_suite(toy_suite(folder), REGISTRY), "tiny", model_spec(REGISTRY, "toy"), REGISTRY)


def test_parts_hold_every_job_once_and_add_up(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    cost = estimate(plan, plan.jobs)
    assert list(cost.parts) == ["pretraining", "zero-shot", "fine-tune", "scratch"]
    assert sum(part.jobs for part in cost.parts.values()) == len(plan.jobs)
    assert sum(part.trials + part.points for part in cost.parts.values()) == len(plan.jobs)
    assert cost.examples == sum(job.passes for job in plan.jobs.values() if isinstance(job, Trial)) > 0
    assert cost.seconds == pytest.approx(sum(part.seconds for part in cost.parts.values()))
    assert all(part.seconds > 0 for part in cost.parts.values())


def test_what_is_done_costs_nothing(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    left = {id: job for id, job in plan.jobs.items() if job.arm == "scratch"}
    cost = estimate(plan, left)
    for name, part in cost.parts.items():
        assert (part.seconds > 0) == (part.examples > 0) == (name == "scratch")
        assert part.reused == (0 if name == "scratch" else part.jobs)
    nothing = estimate(plan, {})
    assert (nothing.seconds, nothing.examples, nothing.bytes) == (0, 0, 0)


def test_fine_tuning_of_given_weights_is_counted_too(tmp_path: Path) -> None:
    suite, spec = load_suite(toy_suite(tmp_path), REGISTRY), model_spec(REGISTRY, "toy")
    plan = make_plan(suite, "tiny", spec, REGISTRY, weights=Weights("weights", "0" * 64))
    cost = estimate(plan, plan.jobs)
    assert list(cost.parts) == ["zero-shot", "fine-tune", "scratch"]
    assert cost.parts["fine-tune"].examples == cost.parts["scratch"].examples > 0


def test_a_network_that_needs_data_is_timed(tmp_path: Path) -> None:
    """Its operations cannot be counted without running it."""
    seen: list[str] = []

    class Looks(nn.Conv2d):
        def forward(self, fields: Tensor, constants: Tensor | None = None) -> Tensor:
            seen.append(fields.device.type)
            return super().forward(fields) * (1 if float(fields.sum()) else 2)

    class Curious(NetworkModel):
        def build(self, problem: Problem) -> nn.Module:
            return Looks(len(problem.input_fields), len(problem.output_names), 1)

    found = registry().with_model(ModelEntry("curious", "1", Curious, "looks at its inputs"))
    suite = load_suite(toy_suite(tmp_path), found)
    plan = make_plan(suite, "tiny", model_spec(found, "curious"), found)
    assert estimate(plan, plan.jobs).seconds > 0
    assert {"meta", "cpu"} <= set(seen)


def test_a_model_that_cannot_be_tried_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Toy, "build", fails)
    plan = toy_plan(tmp_path)
    with pytest.raises(RunError, match="grid of 16: MemoryError: no room"):
        estimate(plan, plan.jobs)
