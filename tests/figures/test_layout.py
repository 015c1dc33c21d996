"""Legends, titles and headlines are on the canvas, however long the names are, and do not overlap the panels."""

from __future__ import annotations

import itertools

import pytest

from pdebench_fm.figures import KINDS, cases
from pdebench_fm.figures.style import drawing
from pdebench_fm.scoring.shift import UNKNOWN
from tests.figures.support import curve, panels
from tests.figures.test_cases import arrays
from tests.figures.test_distributions import KNOWN
from tests.figures.test_mixtures import task as mixture
from tests.support.records import make_record, with_job

MODELS = ("fno-64k", "fno-1m", "fno-16m", "fno-256m", "mode-regression-of-a-plugin")
LONG = "a-model-whose-name-somebody-else-chose-and-found-not-at-all-too-long-for-a-command"


def several(models, tasks, seeds=1):
    """Records of a family of models on a number of tasks; in one, a fine-tuning diverged."""
    found = []
    for (size, model), number in itertools.product(enumerate(models), range(tasks)):
        common = {"model": model, "task": f"SYS-{number}(0.25,0.75)", "parameters": 64000 * 16**size, "overlap": 0.25}
        found += curve("zero-shot", {0: 0.4}, **common)
        for seed, (arm, error) in itertools.product(range(seeds), (("fine-tune", 0.3), ("scratch", 0.9))):
            errors = {n: error / n**0.5 * (1 + seed) / (1 + size) for n in (8, 64)}
            found += curve(arm, errors, seed=seed, **common)
    found += curve("fine-tune", {512: 1.0}, models[0], task="SYS-0(0.25,0.75)", parameters=64000, status="diverged")
    return [with_job(record, model={"family": "fno"}) for record in found]


def assert_laid_out(figure):
    figure.draw_without_rendering()
    canvas = figure.bbox
    heads = [figure._suptitle.get_window_extent(), *(legend.get_window_extent() for legend in figure.legends)]
    texts = [axes.title.get_window_extent() for axes in panels(figure)]
    for box in (*heads, *texts):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= canvas.width
        assert box.y1 <= canvas.height
    for axes in panels(figure):
        box = axes.get_window_extent()
        assert min(box.width, box.height) / figure.dpi > 1.1
        assert not any(box.overlaps(other) for other in heads)
    for title, head in itertools.product(texts, heads):
        assert not title.overlaps(head)


@pytest.mark.parametrize(
    ("kind", "models", "tasks", "shifts"),
    [
        ("errors", MODELS[:1], 1, False),
        ("errors", MODELS[:2], 6, True),
        ("errors", MODELS, 4, False),
        ("errors", (LONG, "short"), 2, False),
        ("savings", MODELS[:4], 4, False),
        ("savings", (LONG,), 1, True),
        ("sizes", (LONG, "short"), 2, False),
        ("parameters", MODELS[:4], 2, True),
        ("seeds", MODELS[-1:], 2, True),
    ],
)
def test_everything_is_on_the_canvas_and_nothing_overlaps(kind, models, tasks, shifts):
    records = several(models, tasks, seeds=2 if kind == "seeds" else 1)
    with drawing():
        ((_, _, figure),) = KINDS[kind].make(records, {r.task: KNOWN for r in records} if shifts else UNKNOWN)
        assert_laid_out(figure)


def test_so_it_is_for_mixtures():
    sources = ("poisson", "advection-diffusion", "helmholtz", "mixed")
    records = [
        record
        for number, source in itertools.product(range(5), sources)
        for record in mixture(f"SYS-{number}(1,2) from {source}", source, f"sampler {number}", 0.4, model=MODELS[-1])
    ]
    with drawing():
        ((_, _, figure),) = KINDS["mixtures"].make(records, UNKNOWN)
        assert_laid_out(figure)


def test_a_long_headline_of_cases_is_broken():
    with drawing():
        figure = cases.make_cases(make_record(LONG, task="SYS-2(0.25,0.75) from advection-diffusion"), arrays())
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
    assert "\n" in figure.get_suptitle()
    assert (box.x0 >= 0, box.x1 <= figure.bbox.width) == (True, True)
