"""The distributions above a panel, and the nominal shift if they are not known."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.patches import StepPatch

from pdebench_fm.figures import KINDS, draw
from pdebench_fm.figures.style import drawing
from pdebench_fm.scoring.shift import Distributions
from tests.figures.support import legend, panels
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
ENTRIES = ["histograms above: pre-training examples", "histograms above: downstream examples"]


def make(kind: str, records: list[Any], shifts: Any) -> Any:
    with drawing():
        ((_, _, figure),) = KINDS[kind].make(records, shifts)
    return figure


def steps(axes: Any) -> list[StepPatch]:
    """The histograms above a panel."""
    return [patch for child in axes.child_axes for patch in child.patches if isinstance(patch, StepPatch)]


def test_pretraining_is_filled_and_downstream_an_outline_over_the_same_bins() -> None:
    figure = make("errors", [make_record(task="SYS-1(5,10)", overlap=0.25)], SHIFTS)
    (axes,) = panels(figure)
    filled, outline = steps(axes)
    assert tuple(filled.get_data().values) == KNOWN.pretraining
    assert tuple(outline.get_data().values) == KNOWN.downstream
    assert tuple(filled.get_data().edges) == tuple(outline.get_data().edges) == KNOWN.edges
    assert (filled.get_fill(), outline.get_fill()) == (True, False)
    (above,) = axes.child_axes
    assert [label.get_text() for label in above.get_xticklabels()] == ["1", "5"]
    assert above.get_xlabel() == "eigenvalue"
    assert axes.get_title() == "SYS-1(5,10)\nshift: med, overlap 0.25"
    assert legend(figure) == ["fine-tune", "95% interval over test examples", *ENTRIES]


def test_an_unknown_distribution_is_replaced_by_the_nominal_shift() -> None:
    points = [record for record in make_suite() if record.kind == "point"]
    first, second = panels(make("errors", points, {"SYS-1(5,10)": KNOWN}))
    assert (steps(first), first.get_title()) == ([], "SYS-1(1,2.5)\n■□□□ shift: none")
    assert (len(steps(second)), second.get_title()) == (2, "SYS-1(5,10)\nshift: med")
    assert legend(make("errors", points, {})) == [
        "zero-shot",
        "fine-tune",
        "scratch",
        "95% interval over test examples",
    ]


def test_a_shift_without_a_level_has_no_boxes() -> None:
    (axes,) = panels(make("errors", [make_record(shift="sideways")], {}))
    assert axes.get_title() == "SYS-1(5,10)\nshift: sideways"
    (axes,) = panels(make("errors", [make_record(shift="")], {}))
    assert axes.get_title() == "SYS-1(5,10)"


@pytest.mark.parametrize("kind", ["errors", "sizes", "parameters", "savings", "seeds", "mixtures"])
def test_figures_of_every_kind_have_them(kind: str) -> None:
    records = make_suite("m", seeds=2, parameters=1000)
    if kind != "seeds":
        large = make_suite("m", 0.5, seeds=2, parameters=2000)
        records += [record.model_copy(update={"model": "m-large"}) for record in large]
    figure = make(kind, [*OWN, *MIXED] if kind == "mixtures" else [r for r in records if r.kind == "point"], SHIFTS)
    assert {len(steps(axes)) for axes in panels(figure)} == {2}
    assert legend(figure)[-2:] == ENTRIES


def test_they_are_asked_for_once_for_each_suite_version_and_profile(tmp_path: Any) -> None:
    asked = []

    def realised(records: Any) -> Any:
        asked.append((records[0].suite, records[0].suite_version, records[0].profile, len(records)))
        return SHIFTS

    records = [*make_suite(), *make_suite(profile="lite"), *make_suite(suite_version=2)]
    draw(records, tmp_path, ["seeds", "mixtures"], realised)
    assert asked == [("smoke", 1, "lite", 11), ("smoke", 1, "smoke", 11), ("smoke", 2, "smoke", 11)]
