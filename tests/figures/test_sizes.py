import pytest

from pdebench_fm.figures import sizes
from tests.figures.support import curve, data, legend, panels
from tests.support.records import make_record, with_job


def family_of(*members, name="op", task="SYS-1(5,10)"):
    """Records of models given as (name, parameters): three arms, errors that fall with size and N."""
    records = []
    for model, parameters in members:
        common = {"model": model, "parameters": parameters, "task": task}
        records += curve("zero-shot", {0: 50 / parameters}, **common)
        for arm, factor in (("fine-tune", 1.0), ("scratch", 3.0)):
            records += curve(arm, {n: factor * 100 / parameters / n for n in (8, 64)}, **common)
    return [with_job(record, model={"family": name}) for record in records]


MEMBERS = (("op-10", 1000), ("op-2", 100), ("op-1", 50))


def test_lines_are_models_from_small_to_large_and_panels_arms():
    ((name, models, figure),) = sizes.make(family_of(*MEMBERS))
    assert (name, models) == ("op", ["op-1", "op-2", "op-10"])
    assert legend(figure) == ["op-1 (50)", "op-2 (100)", "op-10 (1K)"]
    titles = [axes.get_title().split("\n")[0] for axes in panels(figure)]
    assert titles == ["SYS-1(5,10), fine-tune", "SYS-1(5,10), scratch"]
    shown = [line for line in data(panels(figure)[1]) if len(line) > 1]
    assert shown == [[(8.0, pytest.approx(300 / p / 8)), (64.0, pytest.approx(300 / p / 64))] for p in (50, 100, 1000)]


def test_zero_shot_stands_at_zero_of_fine_tuning():
    ((_, _, figure),) = sizes.make(family_of(*MEMBERS))
    alone = [line for line in data(panels(figure)[0]) if len(line) == 1]
    assert alone == [[(0.0, pytest.approx(50 / p))] for p in (50, 100, 1000)]


def test_larger_models_are_darker():
    ((_, _, figure),) = sizes.make(family_of(*MEMBERS))
    colours = [line.get_color() for line in panels(figure)[1].get_lines() if len(line.get_xdata()) == 2]
    brightness = [0.3 * r + 0.6 * g + 0.1 * b for r, g, b, _ in colours]
    assert brightness == sorted(brightness, reverse=True)
    assert len({*map(tuple, colours)}) == 3


def test_a_family_needs_two_sizes_with_a_score():
    assert sizes.make(family_of(("op-1", 50))) == []
    assert sizes.make(family_of(("op-1", 50), ("op-1b", 50))) == []
    refused = make_record("op-2", status="unsupported", parameters=None)
    assert sizes.make([*family_of(("op-1", 50)), with_job(refused, model={"family": "op"})]) == []
    assert sizes.make_parameters([make_record("one", parameters=1), make_record("two", parameters=2)]) == []


def test_each_family_has_a_figure_of_its_own():
    records = [*family_of(*MEMBERS), *family_of(("a", 1), ("b", 2), name="other")]
    assert [name for name, _, _ in sizes.make(records)] == ["op", "other"]


def test_against_parameters_lines_are_sizes_n():
    ((_, _, figure),) = sizes.make_parameters(family_of(*MEMBERS))
    assert legend(figure) == ["N = 0", "N = 8", "N = 64"]
    shown = data(panels(figure)[1])
    assert shown == [[(p, pytest.approx(300 / p / n)) for p in (50, 100, 1000)] for n in (8, 64)]
    assert [tick.get_text() for tick in panels(figure)[1].get_xticklabels()] == ["50", "100", "1K"]


def test_a_model_without_a_score_breaks_the_line_and_a_divergence_is_marked():
    records = [r for r in family_of(*MEMBERS) if (r.model, r.protocol, r.examples) != ("op-2", "scratch", 8)]
    bad = make_record("op-2", protocol="scratch", examples=8, status="diverged", parameters=100)
    records.append(with_job(bad, model={"family": "op"}))
    ((_, _, figure),) = sizes.make_parameters(records)
    assert str(data(panels(figure)[1])[0][1][1]) == "nan"
    ((_, _, figure),) = sizes.make(records)
    assert "x" in [line.get_marker() for line in panels(figure)[1].get_lines()]
    assert "diverged" in legend(figure)


def test_many_sizes_are_thinned_out_to_the_first_the_last_and_some_between():
    records = []
    for model, parameters in MEMBERS:
        records += curve("scratch", {2**k: 1 / parameters for k in range(3, 16)}, model=model, parameters=parameters)
    ((_, _, figure),) = sizes.make_parameters([with_job(r, model={"family": "op"}) for r in records])
    assert legend(figure) == ["N = 8", "N = 64", "N = 512", "N = 4K", "N = 32K"]


def test_a_failed_cell_is_not_drawn_from_its_neighbours():
    failed = make_record("op-2", protocol="scratch", examples=64, status="failed", parameters=100)
    records = family_of(("op-1", 50), ("op-2", 100), ("op-10", 1000))
    records += [with_job(r, model={"family": "op"}) for r in curve("scratch", {512: 0.01}, "op-2", parameters=100)]
    records = [r for r in records if (r.model, r.protocol, r.examples) != ("op-2", "scratch", 64)]
    ((_, _, figure),) = sizes.make_parameters([*records, with_job(failed, model={"family": "op"})])
    shown = data(panels(figure)[1])
    at_64 = next(line for line in shown if line[0][1] == pytest.approx(300 / 50 / 64))
    assert [str(y) for _, y in at_64][1] == "nan"


def test_a_divergence_is_marked_against_parameters_too():
    bad = [
        make_record("op-2", protocol="scratch", examples=8, status="diverged", parameters=100, seed=seed)
        for seed in (0, 1)
    ]
    records = [r for r in family_of(*MEMBERS) if (r.model, r.protocol, r.examples) != ("op-2", "scratch", 8)]
    records += [with_job(r, model={"family": "op"}) for r in bad]
    ((_, _, figure),) = sizes.make_parameters(records)
    crosses = [line for line in panels(figure)[1].get_lines() if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [[100]]
    assert "diverged" in legend(figure)
    ((_, _, figure),) = sizes.make(records)  # no bar has an end, and none is drawn
    figure.draw_without_rendering()
