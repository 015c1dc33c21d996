import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdebench_fm.records.curves import Curve, CurvePoint, family, make_curves, transfer_curves
from pdebench_fm.records.savings import (
    _EXACT,
    Amount,
    _interval_of_amounts,
    fit_curve,
    fit_power_law,
    geometric_mean,
    mean_factor,
    needed,
    savings,
    transfer_gains,
)
from tests.support.records import make_pretraining, make_record, make_suite, with_job


def curve(errors, protocol="scratch", lacking=()):
    """A curve from N → error, or N → errors over seeds (a list: seeds 0, 1, …; a dict: by seed)."""
    points = []
    for n, found in sorted(errors.items()):
        by_seed = found if isinstance(found, dict) else dict(enumerate(found if isinstance(found, list) else [found]))
        points.append(CurvePoint(n, tuple(by_seed.values()), tuple(by_seed)))
    return Curve("m", "t", protocol, tuple(points), tuple(lacking), from_scratch=protocol == "scratch")


SCRATCH = curve({10: 1.0, 100: 0.1, 1000: 0.01})  # error = 10 / N


class TestCurve:
    def test_a_point_is_the_median_and_quartiles_over_seeds(self):
        errors = [0.5, 0.1, 0.3, 0.2, 0.4]
        (found,) = make_curves([make_record(seed=s, error=e) for s, e in enumerate(errors)]).values()
        (point,) = found.points
        assert (point.errors, point.median, point.quartiles) == (tuple(errors), 0.3, (0.2, 0.4))

    def test_there_is_a_curve_for_each_model_task_and_arm_and_none_of_pretrainings(self):
        found = make_curves([make_pretraining(), *make_suite(), *make_suite("other")])
        assert len(found) == 2 * 2 * 3
        assert [p.examples for p in found["other", "SYS-1(5,10)", "scratch"].points] == [16, 64]

    def test_a_diverged_seed_counts_as_an_infinite_error(self):
        half = [make_record(seed=0), make_record(seed=1, status="diverged")]
        (found,) = make_curves(half).values()
        assert found.points[0].median == math.inf
        (found,) = make_curves([*half, make_record(seed=2, error=0.3)]).values()
        assert found.points[0].median == 0.3

    @pytest.mark.parametrize("status", ["failed", "unsupported"])
    def test_a_size_with_an_unknown_outcome_is_lacking(self, status):
        records = [make_record(seed=0), make_record(seed=1, status=status), make_record(examples=64)]
        (found,) = make_curves(records).values()
        assert ([p.examples for p in found.points], found.lacking) == ([64], (16,))

    def test_the_later_of_two_records_of_one_place_counts(self):
        records = [with_job(make_record(error=error), training=code) for code, error in (("old", 0.5), ("new", 0.25))]
        assert make_curves(records).popitem()[1].points[0].errors == (0.25,)

    def test_zero_shot_is_the_zero_of_fine_tuning(self):
        mine = {arm: c for (_, task, arm), c in make_curves(make_suite()).items() if task == "SYS-1(5,10)"}
        (joined,) = transfer_curves(mine)
        assert (joined.protocol, [p.examples for p in joined.points]) == ("fine-tune", [0, 16, 64])

    def test_zero_shot_stands_alone_where_fine_tuning_has_no_point(self):
        arms = {"zero-shot": curve({0: 0.5}, "zero-shot"), "fine-tune": curve({}, "fine-tune", [16])}
        assert {c.protocol: len(c.points) for c in transfer_curves(arms)} == {"zero-shot": 1, "fine-tune": 0}

    def test_an_arm_of_a_plugin_that_starts_from_nothing_transfers_nothing(self):
        starts = {"fine-tune": "pretrained", "scratch": "initialised", "augmented": "initialised", "head": "released"}
        records = [with_job(make_record(protocol=arm), start={"from": start}) for arm, start in starts.items()]
        curves = {arm: found for (_, _, arm), found in make_curves(records).items()}
        assert [found.protocol for found in transfer_curves(curves)] == ["fine-tune", "head"]

    def test_the_error_at_a_budget_is_interpolated_in_logarithms_and_never_beyond_what_was_tried(self):
        assert SCRATCH.error_at(100) == 0.1
        assert SCRATCH.error_at(50) == pytest.approx(0.2)
        assert SCRATCH.error_at(9) is None
        assert SCRATCH.error_at(1001) is None
        assert curve({10: 1.0, 100: math.inf}).error_at(50) is None
        assert curve({0: 1.0, 100: 0.1}).error_at(50) is None

    def test_beside_a_size_without_an_outcome_there_is_no_error_at_a_budget(self):
        broken = curve({10: 1.0, 1000: 0.01, 10000: 0.01}, lacking=[100])
        assert [broken.error_at(n) for n in (10, 30, 100, 300, 1000)] == [1.0, None, None, None, 0.01]
        assert broken.error_at(3000) == pytest.approx(0.01)


class TestIntervals:
    def test_over_seeds_it_is_the_bootstrap_of_the_median(self):
        errors = (0.1, 0.2, 0.3, 0.4, 0.5)
        interval = CurvePoint(8, errors, (0, 1, 2, 3, 4)).interval
        assert interval == (0.1, 0.5)
        generator = np.random.default_rng(0)
        medians = np.median(generator.choice(errors, (20000, 5)), axis=1)
        assert (np.quantile(medians, 0.025), np.quantile(medians, 0.975)) == interval

    def test_of_one_seed_it_is_the_records_own(self):
        (found,) = make_curves([make_record(error=0.1)]).values()
        assert found.points[0].interval == (pytest.approx(0.09), pytest.approx(0.11))
        assert CurvePoint(8, (0.1,), (0,)).interval is None

    def test_it_is_the_same_every_time(self):
        point = CurvePoint(8, (0.1, 0.35, 0.2), (0, 1, 2))
        assert point.interval == CurvePoint(8, (0.1, 0.35, 0.2), (0, 1, 2)).interval


class TestNeeded:
    def test_between_two_sizes_it_is_interpolated_in_logarithms(self):
        assert needed(SCRATCH, 0.2).value == pytest.approx(50)
        assert needed(SCRATCH, 0.1) == Amount(100.0)

    def test_beyond_the_tried_sizes_it_is_a_bound(self):
        assert needed(SCRATCH, 0.009) == Amount(1000.0, ">")
        assert needed(SCRATCH, 2.0) == Amount(10.0, "≤")
        assert needed(SCRATCH, 1.0) == Amount(10.0, "≤")

    def test_the_first_crossing_counts(self):
        bumpy = curve({10: 1.0, 100: 0.1, 1000: 0.5, 10000: 0.01})
        assert needed(bumpy, 0.2) == needed(SCRATCH, 0.2)

    def test_after_a_divergence_only_a_bound_is_known(self):
        assert needed(curve({10: 1.0, 100: math.inf, 1000: 0.01}), 0.2) == Amount(1000.0, "≤")

    def test_beside_a_size_without_an_outcome_only_a_bound_is_known(self):
        assert needed(curve({10: 1.0, 1000: 0.01}, lacking=[100]), 0.1) == Amount(1000, "≤")
        assert needed(curve({100: 0.1, 1000: 0.01}, lacking=[10]), 0.1) == Amount(100, "≤")
        assert needed(curve({10: 1.0, 100: 0.1}, lacking=[1000]), 0.05) == Amount(100, ">")
        assert needed(curve({10: 1.0, 100: 0.1}, lacking=[1000]), 0.5) == needed(SCRATCH, 0.5)

    def test_an_error_of_zero_gives_a_bound_and_no_logarithm(self):
        assert needed(curve({10: 1.0, 100: 0.0}), 0.2) == Amount(100.0, "≤")
        assert needed(curve({10: 1.0, 100: 0.0}), 0.0) == Amount(100.0)

    def test_the_untrained_network_has_no_part_in_it(self):
        assert needed(curve({0: 1e-9, 10: 1.0}), 0.5) == Amount(10.0, ">")
        assert needed(curve({0: 1.0}), 0.5) is None

    @given(
        st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=8),
        st.floats(1e-7, 1e4),
    )
    def test_a_number_always_lies_between_the_sizes_whose_errors_enclose_the_target(self, errors, target):
        sizes = [8 * 2**i for i in range(len(errors))]
        found = needed(curve(dict(zip(sizes, errors, strict=True))), target)
        if found.bound == ">":
            assert min(errors) > target
        else:
            first = next(i for i, error in enumerate(errors) if error <= target)
            assert found.bound == ("≤" if first == 0 else "=")
            assert sizes[max(first - 1, 0)] * (1 - 1e-9) <= found.value <= sizes[first] * (1 + 1e-9)

    def test_a_lower_target_never_needs_less(self):
        bumpy = curve({10: 1.0, 100: 0.1, 1000: 0.5, 10000: 0.01})
        values = [needed(bumpy, target) for target in np.geomspace(2, 1e-3, 40)]
        ranked = [(a.bound == ">", a.value) for a in values]
        assert ranked == sorted(ranked)

    def test_amounts_are_written_with_their_bound(self):
        amounts = (Amount(1234.5), Amount(37.23), Amount(32768.0, ">"), Amount(8.0, "≤"))
        assert [str(a) for a in amounts] == ["1230", "37.2", "> 32768", "≤ 8"]


class TestSavings:
    def test_each_size_is_worth_the_scratch_examples_of_the_same_error(self):
        found = savings(curve({0: 0.5, 10: 0.2, 100: 0.005}, "fine-tune"), SCRATCH)
        assert [s.examples for s in found] == [0, 10, 100]
        assert found[0].matched.value == pytest.approx(20)
        assert found[0].factor is None
        assert found[1].factor.value == pytest.approx(5)
        assert found[2].factor == Amount(10.0, ">")
        assert found[0].interval is None

    def test_without_scratch_or_an_error_there_is_none(self):
        assert savings(curve({10: 0.2}), curve({0: 1.0})) == ()
        assert savings(curve({10: math.inf}), SCRATCH) == ()

    def test_the_interval_over_seeds_holds_the_number_and_may_end_in_a_bound(self):
        tuned = curve({10: [0.2, 0.02, 0.15, 0.1, 0.3]}, "fine-tune")
        scratch = curve({10: [1.0] * 5, 100: [0.1, 0.12, 0.2, 0.05, 0.11]})
        (found,) = savings(tuned, scratch)
        low, high = found.interval
        assert low.bound == "="
        assert low.value <= found.matched.value
        assert high == Amount(100.0, ">")
        assert savings(tuned, scratch, intervals=False)[0].interval is None

    def test_the_interval_ends_where_the_quantiles_of_resamples_lie(self):
        values = np.random.default_rng(0).permutation(1000.0 + np.arange(1000))
        low, high = _interval_of_amounts(values, np.full(1000, _EXACT))
        assert (low.value, high.value) == tuple(np.quantile(values, [0.025, 0.975], method="inverted_cdf"))

    def test_they_are_bounds_beside_a_scratch_size_without_an_outcome(self):
        scratch = curve({10: [1.0, 1.1], 1000: [0.01, 0.02]}, lacking=[100])
        (saving,) = savings(curve({5: [0.1, 0.1]}, "fine-tune"), scratch)
        assert saving.matched == Amount(1000, "≤")
        assert saving.interval == (saving.matched, saving.matched)

    def test_a_size_without_an_outcome_does_not_reach_an_infinite_error(self):
        scratch = curve({32: [0.5, 0.5, 0.5]}, lacking=[8])
        (saving,) = savings(curve({8: [0.1, 0.2, math.inf]}, "fine-tune"), scratch)
        assert saving.interval[0] == Amount(32, "≤")

    def test_seeds_are_drawn_for_both_arms_together(self):
        """Where fine-tuning is scratch shifted by a factor, seed by seed, the saving has no spread."""
        noise = [0.7, 0.9, 1.0, 1.2, 1.4]
        scratch = curve({n: [10 * f / n for f in noise] for n in (10, 100, 1000)})
        tuned = curve({10: [10 * f / 50 for f in noise]}, "fine-tune")
        (found,) = savings(tuned, scratch)
        assert [a.value for a in (found.matched, *found.interval)] == pytest.approx([50, 50, 50])

    def test_seeds_are_paired_by_number_and_not_by_place(self):
        noise = {0: 0.7, 1: 0.9, 2: 1.0, 3: 1.2, 4: 1.4}
        scratch = curve({n: {s: 10 * f / n for s, f in noise.items() if s != 4} for n in (10, 100, 1000)})
        tuned = curve({10: {s: 10 * f / 50 for s, f in noise.items() if s != 0}}, "fine-tune")
        (found,) = savings(tuned, scratch)
        assert [a.value for a in (found.matched, *found.interval)] == pytest.approx([50, 50, 50])
        mixed_up = curve({10: {s: 10 * noise[s] / 50 for s in (3, 1, 2)}}, "fine-tune")
        assert transfer_gains(mixed_up, scratch).interval == pytest.approx((5, 5))

    def test_an_unfinished_run_is_compared_on_the_seeds_it_has_everywhere(self):
        scratch = curve({10: {0: 1.0, 1: 2.0}, 100: {0: 0.1}})
        (zero, one) = savings(curve({0: {0: 0.3}, 10: {0: 0.2, 1: 0.02}}, "fine-tune"), scratch)
        assert (zero.matched.value, one.matched.value) == (pytest.approx(10**1.5228787), pytest.approx(50))
        assert (one.error, one.interval) == (0.2, None)
        assert savings(curve({10: {1: 0.2}}, "fine-tune"), curve({10: {0: 1.0}})) == ()

    def test_the_mean_counts_its_bounds(self):
        found = savings(curve({0: 0.5, 10: 0.2, 100: 0.005, 1000: 5.0}, "fine-tune"), SCRATCH)
        mean = mean_factor(found)
        assert mean.value == pytest.approx((5 * 10 * 0.01) ** (1 / 3))
        assert (mean.more, mean.at_most, mean.count) == (1, 1, 3)
        assert mean_factor(savings(curve({0: 0.5}), SCRATCH)) is None


class TestGains:
    def test_it_is_scratch_over_tuned_and_its_geometric_mean(self):
        found = transfer_gains(curve({0: 0.3, 10: 0.5, 100: 0.0125}, "fine-tune"), SCRATCH)
        assert found.at == {10: 2.0, 100: 8.0}
        assert found.mean == pytest.approx(4.0)
        assert found.interval is None

    @pytest.mark.parametrize(
        "tuned", [curve({10: 0.5, 100: math.inf}), curve({10: 0.5}, lacking=[100]), curve({10: 0.5, 100: 0.0})]
    )
    def test_a_size_without_a_gain_leaves_no_mean(self, tuned):
        found = transfer_gains(tuned, SCRATCH)
        assert (found.at, found.mean) == ({10: 2.0}, None)

    def test_a_size_of_one_arm_alone_has_no_part(self):
        assert transfer_gains(curve({10: 0.5, 32: 0.1}), SCRATCH).mean == pytest.approx(2.0)
        assert transfer_gains(curve({32: 0.1}), SCRATCH).mean is None

    def test_the_interval_is_over_seeds(self):
        found = transfer_gains(curve({10: [0.5, 0.4, 0.6]}), curve({10: [1.0, 1.0, 1.0]}))
        assert found.interval == (pytest.approx(1 / 0.6), pytest.approx(1 / 0.4))

    def test_it_is_over_the_seeds_that_all_points_share(self):
        tuned = curve({0: {0: 0.7}, 10: {0: 0.5, 1: 0.1}, 100: {0: 0.05, 2: 0.001}}, "fine-tune")
        found = transfer_gains(tuned, curve({10: {0: 1.0, 1: 0.1}, 100: {0: 0.1}}))
        assert (found.at, found.mean, found.interval) == ({10: 2.0, 100: 2.0}, pytest.approx(2.0), None)
        strangers = transfer_gains(curve({10: {1: 0.5}}), curve({10: {0: 1.0}}))
        assert (strangers.at, strangers.mean) == ({}, None)

    def test_a_divergence_leaves_no_interval(self):
        found = transfer_gains(curve({10: [0.5, 0.4, math.inf]}), curve({10: [1.0, 1.0, 1.0]}))
        assert (found.mean, found.interval) == (2.0, None)


class TestPowerLaw:
    def test_x_that_lie_close_together_give_a_steep_law(self):
        law = fit_power_law([100_000, 100_500, 101_000], [0.2, 0.1, 0.05])
        assert law.b == pytest.approx(139.3, rel=1e-2)

    def test_an_exact_law_is_found(self):
        law = fit_power_law([10, 100, 1000], [3 * n**-0.4 for n in (10, 100, 1000)])
        assert (law.b, law.r_squared) == (pytest.approx(0.4), pytest.approx(1))
        assert law.b_error == pytest.approx(0, abs=1e-9)

    def test_the_standard_error_is_that_of_least_squares(self):
        x, y = np.array([8.0, 16, 64, 256, 1024]), np.array([0.5, 0.4, 0.12, 0.09, 0.02])
        design = np.stack([np.ones(5), np.log(x)], axis=1)
        solution, residual, *_ = np.linalg.lstsq(design, np.log(y), rcond=None)
        covariance = np.linalg.inv(design.T @ design) * residual[0] / 3
        law = fit_power_law(list(x), list(y))
        assert (law.b, law.b_error) == (pytest.approx(-solution[1]), pytest.approx(math.sqrt(covariance[1, 1])))
        assert law.r_squared == pytest.approx(np.corrcoef(np.log(x), np.log(y))[0, 1] ** 2)

    def test_fewer_than_three_sizes_give_none(self):
        assert fit_power_law([10, 100], [1.0, 0.1]) is None
        assert fit_power_law([10, 10, 100], [1.0, 2.0, 0.1]) is None
        assert fit_curve(curve({0: 1.0, 10: 1.0, 100: 0.1})) is None
        assert fit_power_law([10, 100, 1000], [1.0, math.inf, 0.1]) is None

    def test_equal_errors_have_exponent_zero_and_nothing_to_explain(self):
        law = fit_power_law([10, 100, 1000, 5000], [0.1] * 4)
        assert (law.b, law.r_squared) == (pytest.approx(0, abs=1e-12), 0.0)


def test_a_family_is_what_the_job_names():
    record = make_record("op-small")
    assert family(with_job(record, model={"family": "op"})) == "op"
    assert family(with_job(record, model={"family": ""})) == "op-small"


def test_the_geometric_mean():
    assert geometric_mean([1.0, 100.0]) == pytest.approx(10)
    assert geometric_mean([]) is None
    assert geometric_mean([0.2, 0.3, 0.7]) == pytest.approx(statistics.geometric_mean([0.2, 0.3, 0.7]))
