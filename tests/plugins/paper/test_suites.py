"""The shipped suites: Table 1 of arXiv 2306.00258, scales settled alike, common jobs shared."""

from __future__ import annotations

from functools import cache

import pytest
from pdefm_paper import pdefm_suites

from pdebench_fm.plan.job import Trial
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.registry.discovery import registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.schema import Suite

STUDIES = ("ood_sys1", "ood_sys2", "ood_sys2_exact", "ood_sys3", "mixed", "scaling", "seeds")
PROFILES = ("smoke", "lite", "paper")

TABLE_1 = {
    "ood_sys1": {
        "pre-training": ("eigenvalue", [1, 5]),
        "none": ("eigenvalue", [1, 2.5]),
        "mild": ("eigenvalue", [2.5, 7.5]),
        "med": ("eigenvalue", [5, 10]),
        "large": ("eigenvalue", [10, 20]),
    },
    "ood_sys2": {
        "pre-training": ("ratio", [0.2, 1]),
        "none": ("ratio", [0.2, 0.4]),
        "mild": ("ratio", [0.5, 1.5]),
        "med": ("ratio", [1, 2]),
        "large": ("ratio", [2, 5]),
    },
    "ood_sys3": {
        "pre-training": ("wavenumber", [1, 10]),
        "none": ("wavenumber", [1, 5]),
        "med": ("wavenumber", [11, 15]),
    },
}


@cache
def suite(name: str) -> Suite:
    return load_suite(name)


@cache
def plan(name: str, profile: str, model: str = "fno-64k") -> Plan:
    return make_plan(suite(name), profile, model_spec(registry(), model), registry())


def test_every_study_is_registered_under_its_own_name_at_three_scales() -> None:
    others = {"adaptation", "resolution", "unlabelled", "released"}
    assert {entry.name for entry in pdefm_suites()} == {"smoke", *STUDIES, *others}
    for name in STUDIES:
        assert suite(name).name == name
        assert tuple(suite(name).profiles) == PROFILES
        assert suite(name).default_profile == "lite"
        assert tuple(map(str, suite(name).protocols)) == ("zero-shot", "fine-tune", "scratch")


def test_the_unlabelled_suite_shares_all_jobs_that_have_solutions() -> None:
    for profile in ("smoke", "lite"):
        own = {job.id for job in plan("unlabelled", profile).jobs.values() if "objective" not in str(job.describe())}
        known = set(plan("ood_sys1", profile).jobs)
        from_objective = {
            job.id
            for job in plan("unlabelled", profile).jobs.values()
            if any("objective" in str(other.describe()) for other in plan("unlabelled", profile).related(job).values())
        }
        assert own - from_objective <= known
        assert len(own & known) > len(from_objective)


@pytest.mark.parametrize("name", TABLE_1)
def test_ranges_are_those_of_table_1(name: str) -> None:
    ranges, found = TABLE_1[name], suite(name)
    ((source,),) = (pretraining.distributions for pretraining in found.pretraining.values())
    pairs = {"pre-training": source, **{task.shift: task.downstream for task in found.tasks}}
    assert {shift: found.distributions[of].settings for shift, of in pairs.items()} == {
        shift: {key: value} for shift, (key, value) in ranges.items()
    }


def test_the_exact_suite_differs_in_its_mode_alone() -> None:
    usual, exact = suite("ood_sys2"), suite("ood_sys2_exact")
    assert (usual.tasks, usual.pretraining, usual.profiles) == (exact.tasks, exact.pretraining, exact.profiles)
    assert exact.distributions == {
        name: distribution.model_copy(update={"settings": {**distribution.settings, "mode": "exact"}})
        for name, distribution in usual.distributions.items()
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_scales_are_settled_alike_but_for_sizes_and_seeds(profile: str) -> None:
    def settled(name: str) -> object:
        found = suite(name).profile(profile)
        examples = found.examples.model_copy(update={"downstream": ()})
        return found.model_copy(update={"examples": examples, "seeds": 0})

    assert all(settled(name) == settled("ood_sys1") for name in STUDIES)
    largest = set(suite("ood_sys1").profile(profile).examples.downstream)
    assert all(set(suite(name).profile(profile).examples.downstream) <= largest for name in STUDIES)


@pytest.mark.parametrize("name", ["smoke", *STUDIES])
def test_both_arms_try_the_same_learning_rates(name: str) -> None:
    for profile in suite(name).profiles.values():
        assert profile.fine_tuning.learning_rates == profile.scratch_rates


def test_scratch_has_rates_of_its_own_where_a_suite_says_so() -> None:
    planned = plan("ood_sys1", "smoke")
    tried = {row.protocol: [planned.trial(id).hyperparameters for id in row.job.trials] for row in planned.rows}
    assert [trial["learning_rate"] for trial in tried["pretraining"]] == [5e-3, 1e-2]
    assert [trial["learning_rate"] for trial in tried["scratch"]] == [2e-3, 1e-2]
    assert [trial["learning_rate"] for trial in tried["fine-tune"]] == [2e-3, 1e-2]


def test_the_paper_scale_is_the_papers() -> None:
    found = suite("mixed").profile("paper")
    assert (found.grid, found.examples.pretraining, found.examples.validation) == (128, 2**15, 2**12)
    assert found.examples.downstream == tuple(2**power for power in range(3, 16))
    assert (found.training.epochs, found.training.batch_size, found.fine_tuning.epochs) == (500, 128, 500)
    assert not found.under_trained


@pytest.mark.parametrize("profile", PROFILES)
def test_after_the_single_systems_only_what_comes_from_the_mixture_is_left_of_mixed(profile: str) -> None:
    done = {id for name in ("ood_sys1", "ood_sys2", "ood_sys3") for id in plan(name, profile).jobs}
    rows = [row for row in plan("mixed", profile).rows if row.job.id not in done]
    assert {(row.protocol, row.task.endswith("mixed")) for row in rows} == {
        ("pretraining", True),
        ("zero-shot", True),
        ("fine-tune", True),
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_scaling_and_seeds_share_the_jobs_of_the_systems(profile: str) -> None:
    done = {id for name in ("ood_sys1", "ood_sys2") for id in plan(name, profile).jobs}
    assert set(plan("scaling", profile).jobs) <= done
    left = [row for row in plan("seeds", profile).rows if row.job.id not in done]
    assert all(row.seed > 0 for row in left)
    assert not left or profile != "paper"


@pytest.mark.parametrize("profile", PROFILES)
def test_each_system_of_the_mixture_is_seen_as_often_as_alone(profile: str) -> None:
    seen = {
        row.task: {plan("mixed", profile).trial(id).passes for id in row.job.trials}
        for row in plan("mixed", profile).rows
        if row.kind == "pretraining"
    }
    assert set(seen) == {"poisson", "advection-diffusion", "helmholtz", "mixed"}
    (alone,) = seen["poisson"]
    assert seen["advection-diffusion"] == seen["helmholtz"] == {alone}
    assert seen["mixed"] == {3 * alone}


def test_few_shot_points_of_lite_take_500_steps_or_more() -> None:
    for name in STUDIES:
        budgets = [
            job.budget
            for job in plan(name, "lite").jobs.values()
            if isinstance(job, Trial) and job.few_shot is not None
        ]
        assert budgets
        assert all(budget.steps is not None and budget.steps >= 500 for budget in budgets)


def test_five_seeds_where_the_question_is_seeds() -> None:
    assert [suite("seeds").profile(profile).seeds for profile in PROFILES] == [3, 5, 5]


@pytest.mark.parametrize("model", ["fno-16m", "fno-256m"])
def test_a_size_that_the_smoke_grid_cannot_hold_is_unsupported_in_scaling_alone(model: str) -> None:
    found = plan("scaling", "smoke", model)
    assert found.jobs == {}
    assert {row.unsupported for row in found.rows} == {
        "32 modes need a grid of at least 64 points a side, got 32",
    }
    assert not plan("scaling", "lite", model).refusal
