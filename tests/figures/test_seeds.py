import pytest

from pdebench_fm.figures import COLOURS, seeds
from tests.figures.support import bands, bars, data, legend, panels
from tests.support.records import make_record, make_suite

ERRORS = {8: (0.8, 0.5, 0.6), 64: (0.2, 0.3, 0.1)}


def records(**changes):
    return [
        make_record(examples=n, seed=seed, error=error, **changes)
        for n, errors in ERRORS.items()
        for seed, error in enumerate(errors)
    ]


def test_each_seed_is_a_line_and_the_median_lies_over_them():
    ((_, models, figure),) = seeds.make(records())
    lines = data(panels(figure)[0], COLOURS["fine-tune"])
    assert models == ["conv-small"]
    assert lines[:3] == [[(8.0, a), (64.0, b)] for a, b in zip(*ERRORS.values(), strict=True)]
    assert lines[3] == [(8.0, 0.6), (64.0, 0.2)]
    assert legend(figure) == ["fine-tune, median", "one seed", "quartiles"]


def test_the_band_is_the_quartiles():
    ((_, _, figure),) = seeds.make(records())
    ((outline,),) = bands(panels(figure)[0])
    assert {(8.0, 0.5), (8.0, 0.8), (64.0, 0.1), (64.0, 0.3)} <= set(outline)


def test_a_diverged_seed_breaks_its_line_and_is_marked():
    bad = make_record(examples=64, seed=3, status="diverged")
    ((_, _, figure),) = seeds.make([*records(), make_record(examples=8, seed=3, error=0.7), bad])
    axes = panels(figure)[0]
    assert [str(y) for _, y in data(axes)[3]] == ["0.7", "nan"]
    assert "x" in [line.get_marker() for line in axes.get_lines()]
    assert data(axes)[4][1] == (64.0, pytest.approx(0.25))  # the median of 0.1, 0.2, 0.3 and a divergence


def test_it_needs_several_seeds_of_one_point():
    assert seeds.make(make_suite()) == []
    assert seeds.make([make_record(seed=0), make_record(seed=1, examples=64)]) == []


def test_zero_shot_has_one_seed_and_is_there():
    ((_, _, figure),) = seeds.make(make_suite(seeds=2))
    assert [(0.0, pytest.approx(0.2))] in data(panels(figure)[0], COLOURS["zero-shot"])


def test_models_have_figures_of_their_own():
    found = seeds.make([*make_suite("b", seeds=2), *make_suite("a", seeds=2), *make_suite("single")])
    assert [models for _, models, _ in found] == [["a"], ["b"]]


def test_a_failed_seed_breaks_median_and_band():
    errors = {8: 0.8, 16: 0.7, 32: 0.4, 128: 0.2, 512: 0.1}
    found = [
        make_record(examples=n, seed=seed, error=error * (1 + seed)) for n, error in errors.items() for seed in range(3)
    ]
    found = [r for r in found if (r.examples, r.seed) != (32, 1)]
    found.append(make_record(examples=32, seed=1, status="failed"))
    ((_, _, figure),) = seeds.make(found)
    axes = panels(figure)[0]
    median = data(axes, COLOURS["fine-tune"])[3]
    assert [(x, str(y)) for x, y in median if x in (16, 32, 128)] == [(16.0, "1.4"), (32.0, "nan"), (128.0, "0.4")]
    spans = [(min(outline)[0], max(outline)[0]) for band in bands(axes) for outline in band]
    assert spans == [(8.0, 16.0), (128.0, 512.0)]
    assert {line[2][0] for line in data(axes)[:3]} == {32.0}


def test_a_place_between_lacking_ones_shows_its_quartiles_as_a_bar():
    found = [make_record(examples=n, seed=seed, error=0.1 * (1 + seed)) for n in (8, 128, 512) for seed in range(3)]
    found += [make_record(examples=32, seed=seed, status="failed") for seed in range(3)]
    ((_, _, figure),) = seeds.make(found)
    axes = panels(figure)[0]
    assert bars(axes)[0] == (8.0, 0.1, pytest.approx(0.3))
    assert [place for place, _, _ in bars(axes)] == [8.0, 128.0, 512.0]


def test_a_size_that_a_seed_was_not_run_at_breaks_its_line():
    found = [*records(), *(make_record(examples=n, seed=3, error=0.5) for n in (8, 64))]
    found += [make_record(examples=32, seed=0, error=0.4)]
    ((_, _, figure),) = seeds.make(found)
    lines = data(panels(figure)[0], COLOURS["fine-tune"])
    assert [str(y) for _, y in lines[3]] == ["0.5", "nan", "0.5"]
