"""The checks of distributions can fail: for each there is a system or a sampler that breaks that claim and no other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pdebench_fm.testing import DISTRIBUTION_CHECKS, checks_of_distribution
from tests.testing.outcomes import outcomes

SOLVES, DIFFER = "solution_solves_the_pde", "solutions_differ"
PROBLEM = "examples_are_of_their_problem"
TRUTH = "solutions_are_those_of_the_pde"
GRID, ALONE = "examples_do_not_depend_on_the_grid", "examples_do_not_depend_on_company"
BROKEN = {
    ("good", ""): {},
    ("defaultscale", ""): {SOLVES: "as if it solved the PDE"},
    ("returnszero", ""): {SOLVES: "residual_scale too large; override it where 'k'", DIFFER: "zero everywhere"},
    ("zeroscale", ""): {SOLVES: "residual_scale must be positive and finite"},
    ("iterative", ""): {SOLVES: "must be 1e-10 at most, got 1.00e-07"},
    ("iterativeandsaysso", ""): {},
    ("saysanythinggoes", ""): {SOLVES: "solver_tolerance must be in (0, 1e-4], got 1.0"},
    ("smallforeverything", ""): {SOLVES: "residual is small for everything"},
    ("map", ""): {SOLVES: "skipped: its system has no residual"},
    ("bounded", "bounded"): {},
    ("oneforall", ""): {SOLVES: "skipped: ", DIFFER: "all solutions are equal"},
    ("vanishes", ""): {SOLVES: "skipped: ", DIFFER: "a solution is zero everywhere"},
    ("blowsup", ""): {SOLVES: "skipped: ", DIFFER: "solutions must be finite", TRUTH: "skipped: "},
    ("coupled", ""): {SOLVES: "skipped: ", ALONE: "an example depends on the others of its batch"},
    ("good", "data_seed"): {"data_seed_changes_examples": "the sampler ignores data_seed"},
    ("good", "split"): {"splits_differ": "an example occurs in two splits"},
    ("good", "company"): {ALONE: "a set's size changes examples"},
    ("good", "ids"): {ALONE: "draw makes other examples where others are asked for"},
    ("good", "solve"): {TRUTH: "u must be what the PDE's solver gives, it differs by 100.0% of its size"},
    ("good", "grid"): {GRID: "between 64 and 128 points a side f differs by "},
    ("good", "scale"): {GRID: "between 64 and 128 points a side f differs by 1.5%"},
}


@pytest.mark.parametrize(
    ("fault", "said"), [("nan", "f must be finite"), ("double", "must return 'k' as torch.float32")]
)
def test_fields_that_are_not_the_problems_fail_the_first_claim(
    distribution: Callable[[str, str], str], fault: str, said: str
) -> None:
    (claim, first), *_ = checks_of_distribution(distribution("good", fault))
    assert said in outcomes([(claim, first)])[PROBLEM]


@pytest.mark.parametrize(("which", "said"), BROKEN.items(), ids=["-".join(which) for which in BROKEN])
def test_a_distribution_fails_the_claim_it_breaks(
    distribution: Callable[[str, str], str], which: tuple[str, str], said: dict[str, str]
) -> None:
    found = outcomes(checks_of_distribution(distribution(*which)))
    assert found.keys() == said.keys(), found
    for claim, text in said.items():
        assert text in found[claim]
        assert len(found[claim].splitlines()) == 1


def test_every_claim_on_distributions_can_be_broken() -> None:
    broken = {claim for said in BROKEN.values() for claim, text in said.items() if not text.startswith("skipped")}
    assert broken | {PROBLEM} == {check.__name__.removeprefix("check_") for check in DISTRIBUTION_CHECKS}
