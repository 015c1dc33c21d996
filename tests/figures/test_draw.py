import os
import re
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from pdebench_fm.figures import KINDS, draw, file_stem, style
from pdebench_fm.figures.panels import short_count, short_size
from tests.support.records import make_pretraining, make_record, make_suite, with_job


def files(*given, **options):
    """The files that `draw` writes."""
    return [path for of_kind in draw(*given, **options).values() for path in of_kind]


def test_draw_writes_a_png_and_a_pdf_for_each_suite_and_profile(tmp_path):
    records = [*make_suite(), *make_suite("other", 0.5), *make_suite(profile="lite")]
    written = files(records, tmp_path / "new", kinds=["errors"])
    assert sorted(path.suffix for path in written) == [".pdf", ".pdf", ".png", ".png"]
    assert {path.suffix: path.read_bytes()[:4] for path in written} == {".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert sorted(written) == sorted((tmp_path / "new").iterdir())


def test_every_kind_that_the_records_allow_is_drawn(tmp_path):
    written = draw(make_suite(seeds=2), tmp_path)
    assert {name for name, paths in written.items() if paths} == {"errors", "savings", "seeds"}
    assert [path.name for path in written["seeds"]] == [f"smoke-v1-smoke-seeds-conv-small{s}" for s in (".png", ".pdf")]


def test_the_same_records_give_the_same_bytes(tmp_path):
    records = make_suite(seeds=2)
    first = [path.read_bytes() for path in files(records, tmp_path / "a")]
    assert [path.read_bytes() for path in files(records, tmp_path / "b")] == first
    assert len(first) == 6


def test_the_order_of_the_records_does_not_matter(tmp_path):
    records = [*make_suite("one", seeds=2), *make_suite("two", 0.5, seeds=2)]
    first = {path.name: path.read_bytes() for path in files(records, tmp_path / "a", ["savings"])}
    second = {path.name: path.read_bytes() for path in files(records[::-1], tmp_path / "b", ["savings"])}
    assert first == second


def test_another_metric_is_named_on_the_axis(tmp_path):
    score, worst = (
        imread(files(make_suite(), tmp_path, ["errors"], metric=name)[0]) for name in ("relative_l2", "worst")
    )
    assert score.shape == worst.shape
    assert not np.array_equal(score, worst)  # the same errors under another name


def test_other_sets_of_models_have_other_names(tmp_path):
    names = [
        {path.name for path in files([make_record("a"), make_record(other)], tmp_path, ["errors"])}
        for other in ("b", "c")
    ]
    assert not names[0] & names[1]


def test_nothing_is_drawn_without_a_score(tmp_path):
    assert files([], tmp_path / "a") == []
    assert files([make_record(status="diverged"), make_pretraining()], tmp_path / "a") == []
    assert not (tmp_path / "a").exists()


def test_a_figure_replaces_the_old_one_in_one_step_and_leaves_nothing_behind(tmp_path, monkeypatch):
    (old,) = [path for path in files([make_record()], tmp_path, ["errors"]) if path.suffix == ".pdf"]
    before = old.read_bytes()

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        files([make_record(error=0.3)], tmp_path, ["errors"])
    assert old.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "records",
    [
        [make_record("$x_{", task="$\\frac{", shift="$_", examples=n) for n in (8, 16)],
        [make_record(error=0.0, examples=size, protocol=arm) for size in (8, 16) for arm in ("scratch", "fine-tune")],
        [make_record(examples=0), make_record(examples=0, protocol="scratch", error=1e5)],
        [make_record(parameters=None, shift="", protocol=arm) for arm in ("head-only", "scratch", "fine-tune")],
        [make_record(seed=s, examples=n, status="diverged") for s in (0, 1) for n in (8, 16)]
        + [make_record(protocol="scratch", examples=n, seed=s) for s in (0, 1) for n in (8, 16)],
    ],
    ids=["mathematics", "zero", "no downstream examples", "plugin", "diverged"],
)
def test_odd_records_can_be_drawn(records, tmp_path):
    assert files(records, tmp_path)


def test_file_names_are_safe_and_can_be_read():
    assert file_stem("smoke", "v1", "conv-small") == "smoke-v1-conv-small"
    assert file_stem("smoke-cases", "SYS-1(5,10) from mixed") == "smoke-cases-SYS-1(5,10)+from+mixed"
    assert file_stem("SYS-1 → SYS-2", "größer/kleiner").startswith("SYS-1+-+SYS-2-gr-er-kleiner-")
    for name in ("x y", "x/y", "…", "../..", "x" * 400, "a\nb"):
        stem = file_stem("a", name)
        assert Path(stem).name == stem
        assert stem.isascii()
        assert len(stem) < 200


def test_names_that_were_changed_or_cut_get_a_hash(tmp_path):
    models = ["x y", "x→y", "x—y", "x+y"]
    written = [files([make_record(model)], tmp_path, ["errors"])[0].name for model in models]
    assert written[0] == "smoke-v1-smoke-errors-x+y.png"
    assert all(re.fullmatch(r"smoke-v1-smoke-errors-x-y-[0-9a-f]{8}\.png", name) for name in written[1:])
    assert len(set(written)) == len(models)


def test_sets_of_many_models_that_begin_alike_do_not_overwrite_each_other():
    common = [f"a-rather-long-name-{n}" for n in range(9)]
    stems = {file_stem("smoke", *common, last) for last in "bc"}
    assert len(stems) == 2
    assert all(len(stem) < 200 for stem in stems)


def test_the_help_says_what_every_kind_shows():
    from click.testing import CliRunner

    from pdebench_fm.cli.figures import figures

    lines = CliRunner().invoke(figures, ["--help"]).output.splitlines()
    assert {*KINDS, "cases"} <= {line.split()[0] for line in lines if line.strip()}


def test_labels_are_short():
    assert [short_size(n) for n in (8, 512, 1000, 1024, 32768)] == ["8", "512", "1000", "1K", "32K"]
    assert [short_count(n) for n in (0, 81, 67281, 1050321, 268535425)] == ["0", "81", "67K", "1.1M", "270M"]


def test_colours_can_be_told_apart_without_their_hue():
    ordered = [0.3 * r + 0.6 * g + 0.1 * b for r, g, b, _ in style.ordered_colours(4)]
    assert all(light - dark > 0.1 for light, dark in pairwise(ordered))
    looks = [style.line_style(colour, index) for index, colour in enumerate(style.distinct_colours(7))]
    assert len({look["marker"] for look in looks}) == len({look["color"] for look in looks}) == 7


def test_matplotlib_is_imported_only_for_drawing_and_pyplot_never():
    code = """
import sys
import pdebench_fm.figures
assert "matplotlib" not in sys.modules
from pathlib import Path
from tests.support.records import make_suite
pdebench_fm.figures.draw(make_suite(), Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
"""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=Path(__file__).parents[2])


def test_a_panel_names_the_system_of_its_task():
    records = [
        with_job(make_record(examples=n), test={"sets": [{"count": 256, "system": {"name": name}}]})
        for n, name in ((8, "helmholtz"), (16, "helmholtz"))
    ]
    ((_, _, figure),) = KINDS["errors"].make(records, {})
    assert figure.axes[0].get_title().splitlines()[0] == "SYS-1(5,10), helmholtz"


def test_errors_of_zero_are_said_to_be_drawn_elsewhere():
    def legend(error):
        ((_, _, figure),) = KINDS["errors"].make([make_record(error=error)], {})
        return [text.get_text() for text in figure.legends[0].get_texts()]

    assert "errors below 1e-16 are drawn there" in legend(0.0)
    assert "errors below 1e-16 are drawn there" not in legend(0.1)
