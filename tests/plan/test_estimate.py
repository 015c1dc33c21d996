"""What a plan will cost: every job once, sorted into parts, and nothing for what is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.errors import RunError
from pdebench_fm.plan import estimate as module
from pdebench_fm.plan.estimate import estimate
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.model import Weights, model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.suite.reading import load_suite
from tests.plugins.baselines.synthetic import screened_poisson
from tests.support.installed import with_toy
from tests.support.toy import Toy, toy_suite

REGISTRY = with_toy()


def toy_plan(folder: Path) -> Plan:
    return make_plan(load_suite(toy_suite(folder), REGISTRY), "tiny", model_spec(REGISTRY, "toy"), REGISTRY)


def test_parts_hold_every_job_once_and_add_up(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    cost = estimate(plan, plan.jobs, REGISTRY, "cpu")
    assert list(cost.parts) == ["pretraining", "zero-shot", "fine-tune", "scratch"]
    assert sum(part.jobs for part in cost.parts.values()) == len(plan.jobs)
    assert sum(part.trials + part.points for part in cost.parts.values()) == len(plan.jobs)
    assert cost.examples == sum(job.passes for job in plan.jobs.values() if isinstance(job, Trial)) > 0
    assert cost.seconds == pytest.approx(sum(part.seconds for part in cost.parts.values()))
    assert all(part.seconds > 0 for part in cost.parts.values())


def test_what_is_done_costs_nothing(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path)
    left = {id: job for id, job in plan.jobs.items() if job.arm == "scratch"}
    cost = estimate(plan, left, REGISTRY, "cpu")
    for name, part in cost.parts.items():
        assert (part.seconds > 0) == (part.examples > 0) == (name == "scratch")
        assert part.reused == (0 if name == "scratch" else part.jobs)
    nothing = estimate(plan, {}, REGISTRY, "cpu")
    assert (nothing.seconds, nothing.examples, nothing.bytes) == (0, 0, 0)


def test_fine_tuning_of_given_weights_is_counted_too(tmp_path: Path) -> None:
    suite, spec = load_suite(toy_suite(tmp_path), REGISTRY), model_spec(REGISTRY, "toy")
    plan = make_plan(suite, "tiny", spec, REGISTRY, weights=Weights("weights", "0" * 64))
    cost = estimate(plan, plan.jobs, REGISTRY, "cpu")
    assert list(cost.parts) == ["zero-shot", "fine-tune", "scratch"]
    assert cost.parts["fine-tune"].examples == cost.parts["scratch"].examples > 0


def test_a_slow_model_is_judged_by_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    fit = Toy.fit

    def counted(self, train, validation, budget, *rest):  # type: ignore[no-untyped-def]
        asked.append(budget.steps)
        return fit(self, train, validation, budget, *rest)

    plan = toy_plan(tmp_path)
    monkeypatch.setattr(Toy, "fit", counted)
    estimate(plan, plan.jobs, REGISTRY, "cpu")
    assert set(asked) == {1, 4}
    asked.clear()
    monkeypatch.setattr(module, "_SLOW", 0.0)
    slow = estimate(plan, plan.jobs, REGISTRY, "cpu")
    assert set(asked) == {1}
    assert slow.seconds > 0


def test_a_model_that_cannot_be_tried_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Toy, "fit", fails)
    plan = toy_plan(tmp_path)
    with pytest.raises(RunError, match=r"^toy cannot be tried on a grid of 16: MemoryError: no room$"):
        estimate(plan, plan.jobs, REGISTRY, "cpu")


def test_examples_to_try_a_model_with_lie_on_its_device() -> None:
    inputs, outputs = module._Noise(screened_poisson(8), 4, "meta").batch(range(4))
    assert {tensor.device.type for tensor in (*inputs.values(), *outputs.values())} == {"meta"}
