"""The distributions above a panel, and the boxes where they are not known."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import PathPatch, Rectangle

from pdebench_fm.figures import KINDS, draw
from pdebench_fm.figures.style import drawing
from pdebench_fm.scoring.shift import Distributions
from tests.figures.support import curve, legend
from tests.figures.support import panels as shown
from tests.figures.test_mixtures import MIXED, OWN
from tests.support.records import make_record, make_suite

KNOWN = Distributions(
    parameter="eigenvalue",
    edges=(1.0, 2.0, 3.0, 5.0),
    ends=(1.0, 5.0),
    pretraining=(0.25, 0.0, 0.75),
    downstream=(0.0, 1.0, 0.0),
)
SHIFTS = {"SYS-1(1,2.5)": KNOWN, "SYS-1(5,10)": KNOWN}


def errors(records: list[Any], shifts: Any) -> Any:
    with drawing():
        ((_, _, figure),) = KINDS["errors"].make([record for record in records if record.kind == "point"], shifts)
    return figure


def paths(axes: Any) -> list[PathPatch]:
    return [artist for artist in axes.get_children() if isinstance(artist, PathPatch)]


def corners(axes: Any, patch: PathPatch) -> list[tuple[float, float]]:
    """Across as a part of the panel's width, up in inches from its top."""
    pixels = patch.get_transform().transform(patch.get_path().vertices)
    box = axes.get_window_extent()
    across, up = (pixels[:, 0] - box.x0) / box.width, (pixels[:, 1] - box.y1) / axes.figure.dpi
    return [(round(float(x), 3), round(float(y), 3)) for x, y in zip(across, up, strict=True)]


def boxes(axes: Any) -> int:
    return sum(isinstance(patch, Rectangle) and not patch.get_clip_on() for patch in axes.patches)


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_pretraining_is_filled_and_downstream_an_outline_over_the_same_axis() -> None:
    figure = errors([make_record(task="SYS-1(5,10)", overlap=0.25)], SHIFTS)
    figure.draw_without_rendering()
    (axes,) = shown(figure)
    first, second, line, base = paths(axes)
    assert corners(axes, first) == [(0.0, 0.13), (0.0, 0.176), (0.25, 0.176), (0.25, 0.13)]
    assert corners(axes, second) == [(0.5, 0.13), (0.5, 0.269), (1.0, 0.269), (1.0, 0.13)]
    assert corners(axes, line) == [(0.25, 0.13), (0.25, 0.315), (0.5, 0.315), (0.5, 0.13)]
    assert corners(axes, base) == [(0.0, 0.13), (1.0, 0.13)]
    assert [patch.get_fill() for patch in (first, second, line)] == [True, True, False]
    assert texts(axes) == ["1", "5", "eigenvalue", "shift: med, overlap 0.25"]
    assert boxes(axes) == 0
    assert legend(figure) == ["fine-tune", "above: pre-training", "above: downstream"]


def test_the_outline_is_darker_than_what_is_filled() -> None:
    (axes,) = shown(errors([make_record(task="SYS-1(5,10)")], SHIFTS))
    filled, _, line, _ = paths(axes)
    assert np.mean(filled.get_facecolor()[:3]) - np.mean(line.get_edgecolor()[:3]) > 0.4


def test_what_only_a_few_examples_have_is_filled_but_has_no_outline() -> None:
    few = Distributions("k", (0.0, 1.0, 2.0), (0.0, 2.0), (0.999, 0.001), (0.999, 0.001))
    figure = errors([make_record(task="SYS-1(5,10)")], {"SYS-1(5,10)": few})
    (axes,) = shown(figure)
    filled, line, _ = paths(axes)
    assert max(x for x, _ in filled.get_path().vertices) == 1.0
    assert max(x for x, _ in line.get_path().vertices) == 0.5


def test_where_the_distributions_are_not_known_boxes_show_the_nominal_shift() -> None:
    figure = errors(make_suite(), {})
    for axes in shown(figure):
        assert (paths(axes), boxes(axes)) == ([], 4)
    assert legend(figure) == ["zero-shot", "fine-tune", "scratch"]


def test_one_task_that_is_not_known_has_boxes_beside_the_others_and_its_title_at_their_height() -> None:
    figure = errors(make_suite(), {"SYS-1(5,10)": KNOWN})
    figure.draw_without_rendering()
    first, second = shown(figure)
    assert (len(paths(first)), boxes(first)) == (0, 4)
    assert (len(paths(second)), boxes(second)) == (4, 0)
    heights = [axes.title.get_window_extent().y0 for axes in (first, second)]
    assert heights[0] == pytest.approx(heights[1], abs=0.5)


@pytest.mark.parametrize("tasks", [1, 6])
def test_they_have_the_same_size_above_every_panel_and_the_panels_keep_theirs(tasks: int) -> None:
    names = [f"SYS-{number}(1,2)" for number in range(tasks)]
    records = [record for name in names for record in curve("scratch", {8: 0.1, 64: 0.2}, task=name)]
    with_them, without = errors(records, dict.fromkeys(names, KNOWN)), errors(records, {})
    for figure in (with_them, without):
        figure.draw_without_rendering()
    for axes in shown(with_them):
        assert {y for patch in paths(axes) for _, y in corners(axes, patch)} == {0.13, 0.176, 0.269, 0.315}
    sizes = [
        [axes.get_window_extent().height / axes.figure.dpi for axes in shown(figure)] for figure in (with_them, without)
    ]
    assert sizes[0] == pytest.approx(sizes[1], abs=0.06)


@pytest.mark.parametrize("dpi", [100, 300])
@pytest.mark.parametrize(
    "parameter", ["", "k", "a-parameter-whose-name-somebody-else-chose-and-found-not-too-long", "$\\frac{"]
)
def test_nothing_above_a_panel_stands_on_anything_else(parameter: str, dpi: int) -> None:
    long = Distributions(parameter, (-1.23e-05, 0.5, 1.23e05), (-1.23e-05, 1.23e05), (0.5, 0.5), (0.1, 0.9))
    records = make_suite(overlap=0.25)
    figure = errors(records, dict.fromkeys(SHIFTS, long))
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    for axes in shown(figure):
        panel, base = axes.get_window_extent(), axes.get_window_extent().y1 + 0.13 * dpi
        top = axes.get_window_extent().y1 + 0.315 * dpi
        low, high, name, words = (text.get_window_extent() for text in axes.texts)
        for box in (low, high, name):
            assert panel.y1 < box.y0
            assert box.y1 < base
        assert top < words.y0
        assert words.y1 < axes.title.get_window_extent().y0
        assert low.x0 >= panel.x0 - 1
        assert high.x1 <= panel.x1 + 1
        for left, right in itertools.pairwise((low, name, high)):
            assert left.x1 < right.x0


@pytest.mark.parametrize("kind", ["errors", "sizes", "parameters", "savings", "seeds"])
def test_figures_of_every_kind_have_them(kind: str) -> None:
    small = make_suite("m", seeds=2, parameters=1000, model_args={"width": 1})
    large = make_suite("m", 0.5, seeds=2, parameters=2000, model_args={"width": 2})
    records = small if kind == "seeds" else [*small, *_renamed(large)]
    with drawing():
        ((_, _, figure),) = KINDS[kind].make([record for record in records if record.kind == "point"], SHIFTS)
    assert {len(paths(axes)) for axes in shown(figure)} == {4}
    assert legend(figure)[-2:] == ["above: pre-training", "above: downstream"]


def test_so_have_those_of_mixtures() -> None:
    with drawing():
        ((_, _, figure),) = KINDS["mixtures"].make([*OWN, *MIXED], SHIFTS)
    assert {len(paths(axes)) for axes in shown(figure)} == {4}
    assert legend(figure)[-2:] == ["above: pre-training", "above: downstream"]


def test_they_are_asked_for_once_for_each_suite_version_and_profile(tmp_path: Any) -> None:
    asked = []

    def realised(records: Any) -> Any:
        asked.append((records[0].suite, records[0].suite_version, records[0].profile, len(records)))
        return SHIFTS

    records = [*make_suite(), *make_suite(profile="lite"), *make_suite(suite_version=2)]
    with_them = draw(records, tmp_path / "a", ["errors", "savings"], realised)
    assert asked == [("smoke", 1, "lite", 11), ("smoke", 1, "smoke", 11), ("smoke", 2, "smoke", 11)]
    without = draw(records, tmp_path / "b", ["errors", "savings"])
    assert [path.name for path in with_them] == [path.name for path in without]
    for one, other in zip(with_them, without, strict=True):
        assert one.read_bytes() != other.read_bytes()


def _renamed(records: list[Any]) -> list[Any]:
    """The same records of a larger model of the same family."""
    return [record.model_copy(update={"model": "m-large"}) for record in records]
