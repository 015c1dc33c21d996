import subprocess
import sys
from pathlib import Path

import pytest

from pdebench_fm.figures import COLOURS, draw, file_stem, make_figure
from pdebench_fm.tables import build_table
from tests.support.records import make_pretraining, make_record, make_suite


def panels(records):
    return [axes for axes in make_figure(build_table([r for r in records if r.kind == "point"])).axes if axes.axison]


def lines_of(axes, arm):
    return [line for line in axes.get_lines() if line.get_color() == COLOURS[arm]]


def test_draw_writes_a_png_and_a_pdf_for_each_suite_and_profile(tmp_path):
    records = [*make_suite(seeds=2), *make_suite("other", 0.5), *make_suite(profile="lite")]
    written = draw(records, tmp_path / "new")
    assert sorted(path.suffix for path in written) == [".pdf", ".pdf", ".png", ".png"]
    assert written[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" or written[0].read_bytes()[:4] == b"%PDF"
    assert written == [path for path in written if path.parent == tmp_path / "new"]


def test_the_same_records_give_the_same_bytes(tmp_path):
    first = [path.read_bytes() for path in draw(make_suite(), tmp_path / "a")]
    assert [path.read_bytes() for path in draw(make_suite(), tmp_path / "b")] == first


def test_each_task_is_a_panel_with_its_shift():
    first, second = panels(make_suite())
    assert [axes.get_title() for axes in (first, second)] == ["SYS-1(1,2.5)", "SYS-1(5,10)"]
    assert "shift: med" in [text.get_text() for text in second.texts]


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


def test_names_are_not_read_as_mathematics(tmp_path):
    name = "$x_{"
    assert draw([make_record(name, task="$\\frac{", shift="$_", examples=n) for n in (8, 16)], tmp_path)


def test_an_error_of_zero_can_be_drawn(tmp_path):
    assert draw([make_record(error=0.0, examples=size) for size in (8, 16)], tmp_path)


def test_nothing_is_drawn_without_a_score(tmp_path):
    assert draw([], tmp_path / "a") == []
    assert draw([make_record(status="diverged"), make_pretraining()], tmp_path / "a") == []
    assert not (tmp_path / "a").exists()


def test_file_names_are_safe_and_distinct():
    assert file_stem("smoke", "v1", "conv-small") == "smoke-v1-conv-small"
    odd = [file_stem("a", name) for name in ("x y", "x/y", "X-y", "…", "../..")]
    assert len(set(odd)) == len(odd)
    assert all(Path(name).name == name and name.isascii() for name in odd)


def test_matplotlib_is_imported_only_for_drawing_and_pyplot_never():
    code = """
import sys
import pdebench_fm.figures
assert "matplotlib" not in sys.modules
from pathlib import Path
from tests.support.records import make_record
pdebench_fm.figures.draw([make_record()], Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
"""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=Path(__file__).parents[1])


def test_the_legend_says_of_an_arm_without_a_line_why():
    records = [make_record(protocol="scratch"), make_record(status="unsupported")]
    (legend,) = make_figure(build_table(records)).legends
    assert [text.get_text() for text in legend.get_texts()] == ["fine-tune (unsupported)", "scratch"]
