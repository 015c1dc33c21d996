import re

from pdebench_fm.records.record import Cell
from pdebench_fm.tables.table import NOTE, build_table, cell_text, to_markdown
from pdebench_fm.tables.wording import natural, number
from tests.support.records import make_record, make_suite, with_job


def cells(markdown, arm):
    """The cells of every row of an arm, without the padding; what follows from the curves is left out."""
    rows = [re.split(r"(?<!\\)\|", line) for line in markdown.split(NOTE)[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row[1:-1]] for row in rows if arm in [cell.strip() for cell in row]]


def test_one_seed_shows_its_own_interval_and_several_that_of_their_median():
    one = [make_record(error=0.1)]
    assert cells(to_markdown(build_table(one)), "fine-tune") == [["fine-tune", "0.100 (0.0900–0.110)"]]
    three = [make_record(seed=seed, error=error) for seed, error in enumerate((0.1, 0.4, 0.2))]
    assert cells(to_markdown(build_table(three)), "fine-tune") == [["fine-tune", "0.200 (0.100–0.400)"]]
    nine = [make_record(seed=seed, error=error) for seed, error in enumerate([0.1, *[0.2] * 7, 0.9])]
    assert cells(to_markdown(build_table(nine)), "fine-tune") == [["fine-tune", "0.200 (0.200–0.200)"]]


def test_sizes_stand_across_with_zero_first_and_arms_down():
    rows = build_table(make_suite())[1].rows()
    assert list(rows[0]) == ["arm", "N = 0", "N = 16", "N = 64"]
    assert [row["arm"] for row in rows] == ["zero-shot", "fine-tune", "scratch"]


def test_tables_come_in_natural_order_with_the_pretraining_first():
    records = [make_record(task=task) for task in ("SYS-1(10,20)", "SYS-1(2.5,7.5)", "SYS-1(5,10)")]
    titles = [table.title.split()[0] for table in build_table(records)]
    assert titles == ["SYS-1(2.5,7.5)", "SYS-1(5,10)", "SYS-1(10,20)"]
    assert build_table(make_suite())[0].title == "Pre-training poisson"
    assert natural("a2") < natural("a10")
    assert natural("a-1e-4") != natural("a-1e-04")  # or their order would be that of a set


def test_the_header_says_where_the_scores_come_from():
    text = build_table([make_record(under_trained=True)])[0].header
    for part in ("smoke v1", "profile smoke", "conv-small (67,281 parameters)", "under-trained"):
        assert part in text
    assert "under-trained" not in build_table([make_record()])[0].header


def test_the_header_names_weights_of_the_users_own():
    record = make_record()
    started = with_job(record, start={"from": "weights", "sha256": "ab" * 32})
    text = build_table([started])[0].header
    assert "from weights of the user's own (SHA-256 abababababab…)" in text
    assert "weights" not in build_table([record])[0].header


def test_words_stand_where_there_is_no_number():
    for status in ("diverged", "failed", "unsupported"):
        assert cells(to_markdown(build_table([make_record(status=status)])), "fine-tune") == [["fine-tune", status]]


def test_a_missing_or_diverged_seed_is_said_and_not_averaged_away():
    records = [make_record(examples=64, seed=seed) for seed in range(3)]
    records += [make_record(examples=16, seed=0, error=0.5), make_record(examples=16, seed=1, status="diverged")]
    (row,) = cells(to_markdown(build_table(records)), "fine-tune")
    assert row[1] == "1 of 2 diverged, 2/3 seeds"
    assert "seeds" not in row[2]


def test_a_size_with_fewer_seeds_than_others_of_its_arm_says_how_many_it_has():
    records = [make_record(examples=16, seed=seed) for seed in range(5)]
    records += [make_record(examples=64, seed=seed, error=error) for seed, error in ((0, 0.1), (3, 0.4))]
    (row,) = cells(to_markdown(build_table(records)), "fine-tune")
    assert row[2] == "0.250 (0.100–0.400), 2/5 seeds"
    assert "seeds" not in row[1]


def test_a_diverged_seed_is_worse_than_any_number():
    records = [make_record(seed=seed, error=error) for seed, error in enumerate((0.1, 0.4))]
    assert cell_text([*records, make_record(seed=2, status="diverged")], 3) == "0.400 (0.100–diverged), 1 diverged"


def test_a_failed_seed_leaves_no_median_and_is_said():
    records = [make_record(seed=seed, error=error) for seed, error in enumerate((0.1, 0.4))]
    found = [*records, make_record(seed=2, status="failed")]
    assert cell_text(found, 3) == "0.250 (0.100–0.400), 1 failed, 2/3 seeds"
    assert cell_text(found, 3, detailed=False) == "0.250, 1 failed, 2/3 seeds"


def test_a_planned_cell_without_a_record_is_missing():
    planned = {Cell("SYS-1(5,10)", "fine-tune", size, 0) for size in (16, 64)}
    (row,) = cells(to_markdown(build_table([make_record()], planned)), "fine-tune")
    assert row[2] == "missing"


def test_a_cell_another_model_has_is_missing_too():
    records = [make_record("one"), make_record("two"), make_record("two", examples=64)]
    first, second = cells(to_markdown(build_table(records)), "fine-tune")
    assert first[3] == "missing"
    assert second[3].startswith("0.100")


def test_an_arm_without_downstream_examples_has_no_other_cells():
    (row,) = cells(to_markdown(build_table(make_suite())[1:2]), "zero-shot")
    assert row[2:] == ["–", "–"]


def test_suite_versions_are_never_mixed():
    tables = build_table([make_record(suite_version=1), make_record(suite_version=2, error=0.9)])
    assert [[record.suite_version for record in table.records] for table in tables] == [[2], [1]]


def test_the_later_of_two_records_of_one_place_counts():
    records = [with_job(make_record(error=error), training=code) for code, error in (("old", 0.5), ("new", 0.25))]
    assert cells(to_markdown(build_table(records)), "fine-tune")[0][1].startswith("0.250")


def test_names_cannot_break_a_markdown_table():
    text = to_markdown(build_table([make_record("a|b<i>[x](y)"), make_record("other")]))
    assert r"a\|b\<i\>\[x\](y)" in text
    assert cells(text, r"a\|b\<i\>\[x\](y)")[0][1] == "fine-tune"


def test_numbers_have_three_significant_digits():
    assert [number(x) for x in (0.0123456, 1.2, 123.4, 1.234e-5, 0.0)] == ["0.0123", "1.20", "123", "1.23e-05", "0.00"]


def test_no_records_give_no_table():
    assert build_table([]) == []
