"""Unsupervised pre-training: what is hidden, what has to be given back, and how a suite asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pdefm_objectives.masked import Masked
from pdefm_objectives.super_resolution import SuperResolution

from pdebench_fm.data.unlabelled import Unlabelled
from pdebench_fm.errors import SettingError, SuiteError, UnsupportedError
from pdebench_fm.interfaces import Objective
from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry import Registry, registry
from pdebench_fm.run.runner import run_plan
from pdebench_fm.suite.reading import load_suite
from tests.plugins.baselines.synthetic import Synthetic
from tests.support.toy import SUITE, TOY

EXAMPLES = Synthetic(6, 16, low=0.1, high=0.2)


@pytest.mark.parametrize("objective", [Masked(), Masked(0.8, 5), SuperResolution(), SuperResolution(2)])
def test_fields_are_hidden_in_part_and_constants_are_not(objective: Objective) -> None:
    unlabelled = Unlabelled(EXAMPLES, objective)
    seen, wanted = unlabelled.batch([0, 1, 2, 3])
    inputs = EXAMPLES.input_batch([0, 1, 2, 3])
    assert seen["kappa"].equal(inputs["kappa"])
    assert not seen["source"].equal(inputs["source"])
    assert list(wanted) == list(unlabelled.problem.output_names) == ["clean_source"]
    size = seen["source"].square().mean(dim=(1, 2)).sqrt()
    assert torch.allclose(wanted["clean_source"] * size[:, None, None], inputs["source"], atol=1e-5)
    again = unlabelled.batch([2])[0]["source"][0]
    assert again.equal(seen["source"][2])  # an example is the same in any batch


def test_a_share_of_the_squares_is_masked_and_examples_differ() -> None:
    ones = {"source": torch.ones(4, 16, 16), "kappa": torch.ones(4)}
    seen = Masked(0.25, 4).corrupt(EXAMPLES.problem, ones, range(4))["source"]
    assert seen.mean(dim=(1, 2)).tolist() == [0.75] * 4
    squares = seen.reshape(4, 4, 4, 4, 4).mean(dim=(2, 4))
    assert set(squares.flatten().tolist()) == {0.0, 1.0}
    assert not squares[0].equal(squares[1])
    finer = Masked(0.25, 4).corrupt(Synthetic(1, 32).problem, {"source": torch.ones(4, 32, 32)}, range(4))["source"]
    assert finer[:, ::2, ::2].equal(seen)  # the same function on every grid


def test_super_resolution_keeps_averages_only() -> None:
    inputs = EXAMPLES.input_batch([0, 1])
    seen = SuperResolution(4).corrupt(EXAMPLES.problem, inputs, [0, 1])["source"]
    blocks = seen.reshape(2, 4, 4, 4, 4)
    assert torch.allclose(blocks, blocks.mean(dim=(2, 4), keepdim=True), atol=1e-6)
    assert torch.allclose(blocks.mean(dim=(2, 4)), inputs["source"].reshape(2, 4, 4, 4, 4).mean(dim=(2, 4)), atol=1e-6)
    with pytest.raises(UnsupportedError, match="multiple of 3"):
        SuperResolution(3).corrupt(EXAMPLES.problem, inputs, [0, 1])


def test_arguments_that_hide_nothing_or_all_are_refused() -> None:
    for make in (lambda: Masked(0.0), lambda: Masked(1.0), lambda: Masked(0.5, 1), lambda: SuperResolution(1)):
        with pytest.raises(SettingError):
            make()


def plan_with(folder: Path, pretraining: str, found: Registry, model: str = "toy") -> Plan:
    folder.mkdir(exist_ok=True)
    path = folder / "toy.yaml"
    path.write_text(SUITE.replace("poisson: [A]", f"poisson: {pretraining}"), encoding="utf-8")
    return make_plan(load_suite(path, found), "tiny", model_spec(found, model), found, output=folder / "runs")


@pytest.fixture(scope="module")
def found() -> Registry:
    return registry().with_model(TOY)


def test_a_model_is_pretrained_without_solutions_and_fine_tuned_with_them(tmp_path: Path, found: Registry) -> None:
    plan = plan_with(tmp_path, "{distributions: [A], objective: {masked: {ratio: 0.25}}}", found)
    result = run_plan(plan)
    rows = {(r.kind, r.task, r.protocol, r.examples): r for r in result.records}
    assert {record.status for record in result.records} == {"ok"}
    pretraining = rows["pretraining", "poisson", "pretraining", 16]
    assert set(pretraining.metrics) >= {"relative_l2"}
    assert "pde_residual" not in pretraining.metrics
    described = {"name": "masked", "version": "1", "arguments": {"ratio": 0.25, "squares": 8}}
    assert [of["objective"] for of in pretraining.job["train"]["sets"]] == [described]
    assert pretraining.job["start"]["problem"]["outputs"] == ["solution", "clean_source"]
    tuned = rows["point", "B from poisson", "fine-tune", 8]
    assert "objective" not in str(tuned.job["test"])
    assert "pde_residual" in tuned.metrics


def test_the_default_objective_changes_no_job(tmp_path: Path, found: Registry) -> None:
    forms = ("[A]", "{distributions: [A]}", "{distributions: [A], objective: supervised}")
    plans = [plan_with(tmp_path / str(i), form, found) for i, form in enumerate(forms)]
    assert len({tuple(plan.jobs) for plan in plans}) == 1
    other = plan_with(tmp_path / "other", "{distributions: [A], objective: super-resolution}", found)
    fits = [{job.id for job in plan.jobs.values() if isinstance(job, Trial) and job.arm == arm}
            for plan in (plans[0], other) for arm in ("scratch", "pretraining")]  # fmt: skip
    assert fits[0] == fits[2]
    assert len(fits[1] - fits[3]) == 2


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("maskd", r"toy\.yaml:10:44: pretraining\.poisson\.objective: .*did you mean 'masked'"),
        ("{masked: {ration: 0.2}}", r"toy\.yaml:10:44: .*did you mean 'ratio'"),
        ("{masked: {ratio: half}}", r"toy\.yaml:10:44: .*ratio"),
        ("{masked: {ratio: 2.0}}", r"toy\.yaml:10:44: .*must mask some of 64 squares"),
    ],
)
def test_mistakes_are_found_in_the_suite(objective: str, message: str, tmp_path: Path, found: Registry) -> None:
    with pytest.raises(SuiteError, match=message):
        plan_with(tmp_path, f"{{distributions: [A], objective: {objective}}}", found)
