"""The sections that follow the tables: what the curves say."""

import re

import pytest

from pdebench_fm.tables.table import build_table, to_markdown
from tests.support.records import make_pretraining, make_record, make_suite, with_job


def section(records, title):
    """The rows of a section's table, without the padding; None where there is no such section."""
    text = to_markdown(build_table(records))
    found = re.search(rf"^## {re.escape(title)}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    lines = [line for line in found.group().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [rows[0], *rows[2:]]


def curve(protocol, errors, model="conv-small", **changes):
    """Records of an arm from N → error."""
    return [make_record(model, protocol=protocol, examples=n, error=e, **changes) for n, e in errors.items()]


SCRATCH = curve("scratch", {10: 1.0, 100: 0.1, 1000: 0.01})
TUNED = curve("zero-shot", {0: 0.5}) + curve("fine-tune", {10: 0.2, 100: 0.05, 1000: 0.005})


def test_data_savings_have_a_row_for_each_task_and_bounds_where_nothing_is_known():
    assert section(SCRATCH + TUNED, "Data savings") == [
        ["task", "arm", "N = 0", "N = 10", "N = 100", "N = 1000"],
        ["SYS-1(5,10)", "fine-tune", "20", "50", "200", r"\> 1000"],
    ]
    worse = SCRATCH + curve("fine-tune", {10: 3.0})
    assert section(worse, "Data savings")[1][2] == "≤ 10"


def test_with_several_seeds_savings_and_gains_have_intervals():
    records = [
        make_record(protocol=arm, examples=n, error=factor * noise * 10 / n, seed=seed)
        for arm, factor in (("scratch", 1.0), ("fine-tune", 0.2))
        for n in (10, 100, 1000)
        for seed, noise in enumerate((1.0, 1.1, 1.3))
    ]
    assert section(records, "Data savings")[1][2:] == ["50", "500", r"\> 1000"]  # the same whichever seeds are drawn
    assert section(records, "Transfer gain")[1][-1] == "5.00 × (5.00–5.00)"


def test_an_interval_that_prints_like_its_saving_is_left_out():
    records = [
        make_record(protocol=arm, examples=n, error=factor * (1 + rounding * seed) * 10 / n, seed=seed)
        for arm, factor, rounding in (("scratch", 1.0, 1e-9), ("fine-tune", 0.2, 0.0))
        for n in (10, 100, 1000)
        for seed in range(3)
    ]
    assert section(records, "Data savings")[1][2:] == ["50", "500", r"\> 1000"]


def test_the_interval_of_a_saving_may_end_in_a_bound():
    records = [
        make_record(protocol=arm, examples=n, error=error, seed=seed)
        for arm, n, errors in (
            ("scratch", 10, (1.0, 1.0, 1.0)),
            ("scratch", 100, (0.01, 0.01, 0.01)),
            ("fine-tune", 10, (0.1, 0.001, 0.3)),
        )
        for seed, error in enumerate(errors)
    ]
    assert section(records, "Data savings")[1][2] == r"31.6 (18.3 – \> 100)"


def test_the_transfer_gain_stands_for_each_size_with_its_mean():
    assert section(SCRATCH + TUNED, "Transfer gain") == [
        ["task", "arm", "N = 10", "N = 100", "N = 1000", "mean"],
        ["SYS-1(5,10)", "fine-tune", "5.00 ×", "2.00 ×", "2.00 ×", "2.71 ×"],
    ]


def test_a_failed_size_leaves_no_mean_gain():
    records = SCRATCH + curve("fine-tune", {10: 0.2, 100: 0.05}) + curve("fine-tune", {1000: 1}, status="failed")
    assert section(records, "Transfer gain")[1][2:] == ["5.00 ×", "2.00 ×", "–", "–"]


def test_power_laws_and_the_sizes_for_an_error():
    rows = section(SCRATCH + TUNED, "Error against N")
    wanted = ["N for error 0.1", "N for error 0.01", "error at N = 100", "error at N = 1000"]
    assert rows[0] == ["task", "arm", "exponent b", "R²", *wanted]
    assert rows[2] == ["SYS-1(5,10)", "scratch", "1.00 ± 0.00", "1.00", "100", "1000", "0.100", "0.0100"]
    assert rows[1][4:] == ["31.6", "500", "0.0500", "0.00500"]


def test_the_error_at_a_budget_is_interpolated_and_never_drawn_out():
    rows = section(curve("scratch", {10: 1.0, 40: 0.25, 640: 0.015625}), "Error against N")
    assert rows[1][-2:] == ["0.100", "–"]


def test_the_spread_over_seeds_is_told_by_point():
    errors = (0.1, 0.2, 0.4, 0.3, 0.5)
    many = [make_record(protocol="scratch", examples=8, error=e, seed=seed) for seed, e in enumerate(errors)]
    rows = section([*many, *curve("scratch", {16: 0.1})], "Spread over seeds")
    assert rows == [
        ["task", "arm", "N", "seeds", "median", "lowest", "highest", "quartiles apart"],
        ["SYS-1(5,10)", "scratch", "8", "5", "0.300", "0.100", "0.500", "66.7%"],
    ]
    assert section(SCRATCH, "Spread over seeds") is None


def test_a_seed_that_diverged_leaves_no_distance_of_quartiles():
    records = [make_record(protocol="scratch", examples=8, error=0.1 + seed, seed=seed) for seed in range(2)]
    records.append(make_record(protocol="scratch", examples=8, seed=2, status="diverged"))
    records.append(make_record(protocol="scratch", examples=8, seed=3, status="diverged"))
    (row,) = section([*records, *SCRATCH[1:]], "Spread over seeds")[1:]
    assert row[3:] == ["4", "diverged", "0.100", "diverged", "–"]


def test_the_error_at_a_budget_where_most_seeds_diverged_is_no_number():
    lost = [make_record(protocol="scratch", examples=100, seed=seed, status="diverged") for seed in (1, 2)]
    assert section([*SCRATCH, *lost], "Error against N")[1][-2:] == ["diverged", "0.0100"]


def test_two_sizes_are_no_curve():
    assert section(make_suite(), "Error against N") is None


def test_several_models_have_rows_of_their_own():
    rows = section(make_suite("one") + make_suite("two", 0.5), "Transfer gain")
    assert [row[:3] for row in rows[1:]] == [
        [task, model, "fine-tune"] for task in ("SYS-1(1,2.5)", "SYS-1(5,10)") for model in ("one", "two")
    ]


def test_arms_that_have_no_seed_in_common_say_so():
    scratch = curve("scratch", {10: 1.0, 100: 0.1}, seed=1)
    records = scratch + curve("zero-shot", {0: 0.5}) + curve("fine-tune", {10: 0.2, 100: 0.05})
    assert section(records, "Data savings")[1:] == [["SYS-1(5,10)", "fine-tune", "no seed in common", "–", "–"]]
    assert section(records, "Transfer gain")[1:] == [["SYS-1(5,10)", "fine-tune", "no seed in common", "–", "–"]]


def test_a_zero_shot_arm_is_compared_with_whatever_seed_scratch_has_at_every_size():
    zero = curve("zero-shot", {0: 0.5})
    one, apart = (
        curve("scratch", {10: 1.0, 100: 0.1}, seed=1),
        curve("scratch", {10: 1.0}) + curve("scratch", {100: 0.1}, seed=1),
    )
    assert section(one + zero, "Data savings")[1][2] == "20"
    assert section(apart + zero, "Data savings")[1][2] == "no seed in common"
    assert section(apart + zero, "Transfer gain") is None


def test_an_arm_that_was_refused_has_no_row():
    records = SCRATCH + curve("zero-shot", {0: 0.5}) + curve("fine-tune", {10: 1, 100: 1}, status="unsupported")
    assert section(records, "Data savings")[1] == ["SYS-1(5,10)", "zero-shot", "20", "–", "–", "–"]
    assert section(records, "Transfer gain") is None


def test_without_a_curve_there_is_no_section():
    for records in ([], [make_pretraining()], [make_record()], SCRATCH[:1]):
        assert "## " not in to_markdown(build_table(records)).split("no such cell.")[1]


def test_suites_and_profiles_are_never_mixed():
    text = to_markdown(build_table([*SCRATCH, *TUNED, *make_suite(profile="lite"), *make_suite("a", suite_version=2)]))
    for place in ("smoke v1, profile smoke", "smoke v1, profile lite", "smoke v2, profile smoke"):
        assert f"## Data savings, {place}\n" in text


def in_family(records, parameters):
    changed = (with_job(record, model={"family": "op"}) for record in records)
    return [record.model_copy(update={"parameters": parameters}) for record in changed]


def test_error_against_parameters_needs_three_sizes_of_a_family():
    sizes = {"op-s": 100, "op-m": 1000, "op-l": 10000}
    records = [
        record
        for model, count in sizes.items()
        for record in in_family(curve("scratch", {10: count**-0.5, 100: count**-0.25}, model), count)
    ]
    assert section(records, "Error against parameters") == [
        ["task", "family", "arm", "N = 10", "N = 100"],
        ["SYS-1(5,10)", "op", "scratch", "0.50 ± 0.00, R² 1.00", "0.25 ± 0.00, R² 1.00"],
    ]
    assert section(records[:4], "Error against parameters") is None


@pytest.mark.parametrize("name", ["a|b<i>", "$x_{", "*bold*"])
def test_names_cannot_break_a_table(name):
    records = [*make_suite(name), *make_suite("other")]
    rows = section([*records, make_record("other", task=name)], "Transfer gain")
    assert {len(row) for row in rows} == {len(rows[0])}
