import pytest

from pdebench_fm.figures import COLOURS, errors
from tests.figures.support import legend
from tests.support.records import make_record, make_suite


def draw(records):
    ((_, _, figure),) = errors.make([record for record in records if record.kind == "point"])
    return figure


def panels(records):
    return [axes for axes in draw(records).axes if axes.axison]


def lines_of(axes, arm):
    return [line for line in axes.get_lines() if line.get_color() == COLOURS[arm]]


def test_each_task_is_a_panel_with_its_shift():
    first, second = panels(make_suite())
    assert [axes.get_title() for axes in (first, second)] == [
        "SYS-1(1,2.5)\n■□□□ shift: none",
        "SYS-1(5,10)\n■■■□ shift: med",
    ]


def test_the_measured_overlap_is_beside_the_shift():
    (axes,) = panels([make_record(examples=size, overlap=0.14, task="SYS-1(5,10)") for size in (16, 64)])
    assert axes.get_title().endswith("shift: med, overlap 0.14")


def test_zero_shot_is_a_horizontal_line_and_zero_has_a_place():
    axes = panels(make_suite())[0]
    levels = [line for line in lines_of(axes, "zero-shot") if list(line.get_xdata()) == [0, 1]]
    assert [list(line.get_ydata()) for line in levels] == [[pytest.approx(0.2)] * 2]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "16", "64"]


def test_scratch_at_zero_is_not_joined_to_the_rest():
    records = [make_record(protocol="scratch", examples=size, error=1.0) for size in (0, 8, 16)]
    points = [len(line.get_xdata()) for line in lines_of(panels(records)[0], "scratch")]
    assert sorted(points) == [1, 2]


def test_a_size_without_a_score_breaks_the_line_and_a_divergence_is_marked():
    records = [make_record(examples=size) for size in (8, 32)] + [make_record(examples=16, status="diverged")]
    line, cross = sorted(lines_of(panels(records)[0], "fine-tune"), key=lambda line: -len(line.get_xdata()))
    assert [str(value) for value in line.get_ydata()] == ["0.1", "nan", "0.1"]
    assert (cross.get_marker(), list(cross.get_xdata())) == ("x", [16])


def test_models_differ_by_marker_and_style():
    axes = panels([*make_suite("one"), *make_suite("two", 0.5)])[0]
    looks = {(line.get_marker(), str(line.get_linestyle())) for line in lines_of(axes, "fine-tune")}
    assert len(looks) == 2


def test_the_legend_says_of_an_arm_without_a_line_why():
    records = [make_record(protocol="scratch"), make_record(status="unsupported")]
    assert legend(draw(records)) == ["fine-tune (unsupported)", "scratch", "95% interval over test examples"]


def test_levels_of_many_models_start_at_markers_that_can_be_told_apart():
    records = [make_record(f"m{i}", protocol="zero-shot", examples=0, error=0.1 + 0.1 * i) for i in range(8)]
    lines = panels([*records, *(make_record(f"m{i}", examples=16) for i in range(8))])[0].get_lines()
    levels = {line.get_ydata()[0] for line in lines if list(line.get_xdata()) == [0, 1]}
    markers = {line.get_ydata()[0]: line.get_marker() for line in lines if list(line.get_xdata()) == [0]}
    assert levels == set(markers)
    assert len(set(markers.values())) == 8


def test_seeds_most_of_which_diverged_have_no_median_on_the_axis():
    records = [
        make_record(protocol=arm, examples=size, seed=seed, status="ok" if seed == 0 or size == 64 else "diverged")
        for arm, sizes in (("zero-shot", (0,)), ("fine-tune", (16, 64)))
        for size in sizes
        for seed in range(3)
    ]
    axes = panels(records)[0]
    (line,) = [line for line in lines_of(axes, "fine-tune") if len(line.get_xdata()) == 2]
    assert [str(value) for value in line.get_ydata()] == ["nan", "0.1"]
    assert not [line for line in lines_of(axes, "zero-shot") if list(line.get_xdata()) == [0, 1]]
    crosses = {float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == "x"}
    assert crosses == {0.0, 16.0}
    axes.figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("seeds", "shown"),
    [
        (1, "95% interval over test examples"),
        (2, "range over seeds"),
        (5, "range over seeds"),
        (6, "95% interval over seeds"),
    ],
)
def test_the_legend_says_what_the_bands_are(seeds, shown):
    records = [make_record(seed=seed, error=0.1 + seed / 100) for seed in range(seeds)]
    assert legend(draw(records))[-1] == shown
    zero_shot = make_record(protocol="zero-shot", examples=0)
    one = "" if seeds == 1 else " (one seed: 95% interval over test examples)"
    assert " ".join(legend(draw([*records, zero_shot]))[-1].split()) == shown + one
