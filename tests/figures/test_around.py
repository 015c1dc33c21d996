"""Everything that figures say lies on the canvas, however long the names are."""

from __future__ import annotations

import itertools

import pytest

from pdebench_fm.figures import KINDS, around, cases, panels
from pdebench_fm.figures.style import drawing
from pdebench_fm.scoring.shift import UNKNOWN
from tests.figures.support import curve, with_job
from tests.figures.support import panels as shown
from tests.figures.test_cases import arrays
from tests.figures.test_distributions import KNOWN
from tests.figures.test_mixtures import task as mixture
from tests.support.records import make_record

MODELS = ("fno-64k", "fno-1m", "fno-16m", "fno-256m", "mode-regression-of-a-plugin")
LONG = "a-model-whose-name-somebody-else-chose-and-found-not-at-all-too-long-for-a-command"


def several(models, tasks, seeds=1):
    """Records of a family of models on a number of tasks; in each, one fine-tuning diverged."""
    found = []
    for (size, model), number in itertools.product(enumerate(models), range(tasks)):
        common = {"model": model, "task": f"SYS-{number}(0.25,0.75)", "parameters": 64000 * 16**size, "overlap": 0.25}
        found += curve("zero-shot", {0: 0.4}, **common)
        for seed in range(seeds):
            for arm, error in (("fine-tune", 0.3), ("scratch", 0.9)):
                errors = {n: error / n**0.5 * (1 + seed) / (1 + size) for n in (8, 64)}
                found += curve(arm, errors, seed=seed, **common)
            bad = {"status": "diverged", "seed": seed, **common}
            found += curve("fine-tune", {512: 1.0}, **bad) if number == 0 and size == 0 else []
    return [with_job(record, model={"family": "fno"}) for record in found]


def outside(figure, dpi):
    """Texts and legends that are not wholly on the canvas."""
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    texts = [figure._suptitle, *figure.texts]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
    found = []
    for artist in [*figure.legends, *(text for text in texts if text is not None and text.get_text())]:
        box = artist.get_window_extent(renderer)
        width, height = figure.bbox.width, figure.bbox.height
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            found.append((artist, tuple(box.extents), (width, height)))
    return found


def drawn(kind, records, shifts=UNKNOWN):
    with drawing():
        return [figure for _, _, figure in KINDS[kind].make(records, shifts)]


CASES = [
    *[(kind, MODELS[:models], tasks) for kind in ("errors", "savings") for models in (1, 4, 5) for tasks in (1, 2)],
    *[(kind, MODELS[:4], tasks) for kind in ("sizes", "parameters") for tasks in (1, 2)],
    *[("seeds", MODELS[-1:], tasks) for tasks in (1, 2)],
    ("errors", MODELS, 4),
    ("errors", MODELS[:2], 6),
    ("savings", MODELS[:4], 4),
    *[(kind, (LONG, "short"), 2) for kind in ("errors", "sizes", "savings")],
    *[(kind, (LONG,), 1) for kind in ("errors", "savings", "seeds")],
]


@pytest.mark.parametrize(("kind", "models", "tasks"), CASES)
def test_legends_and_titles_lie_on_the_canvas(kind, models, tasks):
    (figure,) = drawn(kind, several(models, tasks, seeds=2 if kind == "seeds" else 1))
    for dpi in (100, 300):
        assert outside(figure, dpi) == []
    for axes in shown(figure):  # nothing is squeezed to make room
        box = axes.get_window_extent()
        assert box.height / figure.dpi > 1.2
        assert box.width / figure.dpi > 1.2


@pytest.mark.parametrize(
    ("kind", "models", "tasks"),
    [
        ("errors", MODELS[:1], 1),
        ("errors", MODELS[:2], 6),
        ("parameters", MODELS[:4], 2),
        ("savings", (LONG,), 1),
        ("seeds", MODELS[-1:], 2),
    ],
)
def test_so_they_do_above_and_below_distributions(kind, models, tasks):
    records = several(models, tasks, seeds=2 if kind == "seeds" else 1)
    (figure,) = drawn(kind, records, {record.task: KNOWN for record in records})
    for dpi in (100, 300):
        assert outside(figure, dpi) == []
    for axes in shown(figure):
        box = axes.get_window_extent()
        assert min(box.width, box.height) / figure.dpi > 1.2


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_so_do_those_of_mixtures(groups):
    records = []
    for number in range(groups):
        for source in ("poisson", "advection-diffusion", "helmholtz", "mixed"):
            records += mixture(f"SYS-{number}(1,2) from {source}", source, f"sampler {number}", 0.4, model=MODELS[-1])
    (figure,) = drawn("mixtures", records)
    assert outside(figure, 100) == outside(figure, 300) == []


def test_so_do_those_of_cases():
    with drawing():
        figure = cases.make_cases(make_record(LONG, task="SYS-2(0.25,0.75) from advection-diffusion"), arrays())
    assert outside(figure, 100) == []


def test_a_headline_is_broken_where_it_reads_well():
    figure, _ = panels.make_panels(2)
    height = figure.get_figheight()
    around.add_headline(figure, "ood_sys3 v2, profile lite: mode-regression, 14,880 parameters · data savings at N = 0")
    first, second = figure.get_suptitle().splitlines()
    assert first.endswith("parameters")
    assert second == "data savings at N = 0"
    assert figure.get_figheight() > height


def test_a_legend_takes_as_many_columns_as_fit():
    def columns(width, labels):
        figure, _ = panels.make_panels(2)
        figure.set_figwidth(width)
        around.add_legend(figure, [[({"color": "black"}, label)] for label in labels])
        return figure.legends[0]._ncols, figure.get_figwidth()

    assert columns(8.0, ["short"] * 4) == (4, 8.0)
    assert columns(4.2, ["a label that is longer"] * 4) == (2, 4.2)
    assert columns(4.2, ["a label that is so long that no two of them fit"] * 4) == (1, 4.2)
    number, width = columns(4.2, ["a label that is so long that no two of them fit"] * 14)  # 14 lines are too high
    assert (number, width <= around.PAGE) == (2, True)
    number, width = columns(4.2, [LONG])
    assert (number, width > 4.2) == (1, True)


def test_the_arms_of_a_model_stay_together_in_the_legend():
    for models, tasks in ((3, 4), (5, 3)):
        (figure,) = drawn("errors", several(MODELS[:models], tasks))
        legend = figure.legends[0]
        texts = [text.get_text() for text in legend.get_texts()]
        rows = len(texts) // legend._ncols
        columns = [texts[start : start + rows] for start in range(0, len(texts), rows)]
        for model in MODELS[:models]:
            assert [sum(text.startswith(f"{model},") for text in column) for column in columns].count(3) == 1


def test_a_panel_title_that_is_too_long_is_broken_and_one_word_made_smaller():
    (figure,) = drawn("errors", [make_record(task=task) for task in ("a" * 40, "SYS-1(5,10) from advection-diffusion")])
    first, second = sorted((axes.title for axes in shown(figure)), key=lambda title: title.get_fontsize())
    assert first.get_fontsize() < around.TITLE_SIZE == second.get_fontsize()
    assert "\n" in second.get_text()
    assert outside(figure, 100) == []
