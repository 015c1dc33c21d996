"""The score that ranks cannot be raised by leaving out, adding, or failing anything."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdebench_fm.leaderboard import Rules
from pdebench_fm.leaderboard.badges import Badge, badges_that_hold
from pdebench_fm.leaderboard.standing import group, standings
from tests.support.records import make_record, make_suite

PLAN = frozenset(record.cell for record in make_suite(seeds=2) if record.kind == "point")
OTHERS = [*make_suite("better", 0.8, seeds=2), *make_suite("worse", 1.2, seeds=2)]
MINE = make_suite("mine", seeds=2)


def standing(mine):
    found = standings(group([*OTHERS, *mine], Rules(lambda *_: PLAN))[0])
    return next((one for one in found if one.model == "mine"), None)


def place(mine):
    """Rank, with no rank behind every rank."""
    found = standing(mine)
    return math.inf if found is None or found.rank is None else found.rank


def points(records):
    return [record for record in records if record.kind == "point"]


def spoiled(record, status):
    return make_record(
        record.model, record.task, record.protocol, record.examples, record.seed, shift=record.shift, status=status
    )


def test_whole_it_stands_between_the_others():
    assert place(MINE) == 2


@given(st.sets(st.sampled_from(range(len(points(MINE)))), min_size=1))
@settings(max_examples=30)
def test_leaving_out_any_cells_loses_the_rank(left_out):
    assert place([record for i, record in enumerate(points(MINE)) if i not in left_out]) == math.inf


def test_a_record_that_stands_twice_counts_once():
    """`build` may meet what `check` would refuse."""
    better = points(MINE)[0].model_copy(update={"metrics": {"relative_l2": 1e-4}})
    assert standing([*MINE, better, better]).score == standing([*MINE, better]).score
    assert standing([better, *MINE]).score == standing(MINE).score


def test_leaving_out_a_task_or_a_seed_loses_the_rank():
    assert place([record for record in MINE if record.task != "SYS-1(5,10)"]) == math.inf
    assert place([record for record in MINE if record.seed == 0]) == math.inf


@given(
    st.sets(st.sampled_from(range(len(points(MINE)))), min_size=1),
    st.sampled_from(["diverged", "failed", "unsupported"]),
)
@settings(max_examples=30)
def test_diverging_failing_or_refusing_loses_the_rank(bad, status):
    assert place([spoiled(r, status) if i in bad else r for i, r in enumerate(points(MINE))]) == math.inf


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["SYS-1(5,10)", "SYS-1(1,2.5)", "easy"]),
            st.sampled_from(["zero-shot", "fine-tune", "scratch", "head-only"]),
            st.sampled_from([0, 1, 16, 32, 4096]),
            st.integers(0, 5),
        ),
        min_size=1,
        unique=True,
    ),
    st.sampled_from(["ok", "diverged", "failed", "unsupported"]),
)
@settings(max_examples=30)
def test_adding_cells_that_are_not_planned_changes_nothing(cells, status):
    extra = [make_record("mine", *cell, error=1e-9, status=status) for cell in cells if cell not in PLAN]
    before, after = standing(MINE), standing([*MINE, *extra])
    assert (after.rank, after.score, after.gain, after.saving) == (
        before.rank,
        before.score,
        before.gain,
        before.saving,
    )
    assert [one.rank for one in standings(group([*OTHERS, *MINE, *extra], Rules(lambda *_: PLAN))[0])] == [1, 2, 3]


def test_a_worse_scratch_arm_raises_the_gain_and_not_the_score():
    sandbagged = [
        r.model_copy(update={"metrics": {"relative_l2": 50.0}, "interval": {}}) if r.protocol == "scratch" else r
        for r in MINE
    ]
    assert standing(sandbagged).gain > 10 * standing(MINE).gain
    assert (standing(sandbagged).rank, standing(sandbagged).score) == (2, standing(MINE).score)


def test_without_the_plan_there_are_scores_and_no_ranks():
    (found,) = group([*OTHERS, *MINE])
    assert not found.from_suite
    assert [(one.model, one.rank) for one in standings(found)] == [("better", None), ("mine", None), ("worse", None)]
    assert standings(found)[1].score == pytest.approx(standing(MINE).score)


def test_the_saving_is_over_planned_cells_alone():
    extra = make_record("mine", "SYS-1(5,10)", "scratch", 4096, error=1e-9)
    assert standing([*MINE, extra]).saving == standing(MINE).saving
    assert standing(MINE).saving.count == 4


def measured(rise, **others):
    """My records with a rise at every scored point; ``others`` by arm."""
    return [
        r.model_copy(update={"coefficient_rise": others.get(r.protocol.replace("-", "_"), rise)})
        for r in MINE
        if r.kind == "point"
    ]


@pytest.mark.parametrize(("rise", "ignored"), [(0.0, True), (0.04, True), (-0.04, True), (0.06, False), (-0.3, False)])
def test_coefficients_are_used_where_exchanging_them_moves_the_error_up_or_down(rise, ignored):
    found = standing(measured(rise, scratch=9.0))
    assert (found.coefficients.rise, found.coefficients.ignored) == (rise, ignored)


def test_the_check_of_the_coefficients_cannot_be_passed_by_leaving_points_out_or_adding_some():
    extra = [
        make_record("mine", "SYS-1(5,10)", "fine-tune", 32 + i, error=1e-9, coefficient_rise=9.0) for i in range(40)
    ]
    assert standing([*measured(0.0), *extra]).coefficients.ignored
    without = standing(measured(0.0, zero_shot=None)).coefficients
    assert (without.ignored, len(without.all), without.unmeasured) == (True, 8, 4)
    assert standing(measured(None)).coefficients is None


def test_a_task_whose_coefficients_are_not_used_is_named_however_the_others_fare():
    rises = {"SYS-1(5,10)": 2.0, "SYS-1(1,2.5)": -0.01}
    found = standing([r.model_copy(update={"coefficient_rise": rises[r.task]}) for r in points(MINE)]).coefficients
    assert not found.ignored
    assert found.ignored_on == ("SYS-1(1,2.5)",)


def badge_of(records):
    return Badge.of_records(records, "scored again", 1, 0.0, "cpu")


def test_claimed_results_are_not_ranked_beside_verified_ones():
    lucky = make_suite("lucky", 0.01, seeds=2)
    verified = badges_that_hold([badge_of(MINE)], [*MINE, *OTHERS, *lucky])
    found = standings(group([*OTHERS, *MINE, *lucky], Rules(lambda *_: PLAN))[0], verified)
    assert [(one.model, one.rank) for one in found] == [("mine", 1), ("lucky", None), ("better", None), ("worse", None)]


def test_without_any_badge_all_are_ranked_as_they_claim():
    found = standings(group([*OTHERS, *MINE], Rules(lambda *_: PLAN))[0], {})
    assert [one.rank for one in found] == [1, 2, 3]


def test_a_badge_of_other_scores_does_not_count():
    changed = make_suite("mine", 0.9, seeds=2)
    assert badges_that_hold([badge_of(MINE)], changed) == {}


def test_points_are_gathered_once_for_all_models():
    found = group([*OTHERS, *MINE])[0]
    assert found.points is found.points
