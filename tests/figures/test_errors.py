import pytest

from pdebench_fm.figures import COLOURS, make_figure
from pdebench_fm.tables import build_table
from tests.support.records import make_record, make_suite


def panels(records):
    return [axes for axes in make_figure(build_table([r for r in records if r.kind == "point"])).axes if axes.axison]


def lines_of(axes, arm):
    return [line for line in axes.get_lines() if line.get_color() == COLOURS[arm]]


def test_each_task_is_a_panel_with_its_shift():
    first, second = panels(make_suite())
    assert [axes.get_title() for axes in (first, second)] == ["SYS-1(1,2.5)", "SYS-1(5,10)"]
    assert "shift: med" in [text.get_text() for text in second.texts]


def test_the_realised_overlap_stands_beside_the_shift():
    (axes,) = panels([make_record(examples=size, overlap=0.14, task="SYS-1(5,10)") for size in (16, 64)])
    assert "shift: med, overlap 0.14" in [text.get_text() for text in axes.texts]


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
    (legend,) = make_figure(build_table(records)).legends
    assert [text.get_text() for text in legend.get_texts()] == ["fine-tune (unsupported)", "scratch"]


def test_levels_of_many_models_can_be_told_apart():
    records = [make_record(f"m{i}", protocol="zero-shot", examples=0, error=0.1 + 0.1 * i) for i in range(8)]
    records += [make_record(f"m{i}", examples=16) for i in range(8)]
    levels = [line for line in panels(records)[0].get_lines() if list(line.get_xdata()) == [0, 1]]
    assert len(levels) == 8
    assert len({line.get_marker() for line in levels}) == 8
    assert all(line.get_markevery() == [1] for line in levels)


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
    assert crosses == {4.0, 16.0}
    axes.figure.draw_without_rendering()
