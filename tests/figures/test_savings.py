import pytest

from pdebench_fm.figures import savings
from tests.figures.support import curve, data, legend, panels
from tests.support.records import make_record, make_suite

SCRATCH = curve("scratch", {10: 1.0, 100: 0.1, 1000: 0.01})


def arrows(axes):
    """(N, from where, whether it points up) of every arrow."""
    return [
        (round(text.xy[0], 6), text.xy[1], text.get_position()[1] > 0) for text in axes.texts if not text.get_text()
    ]


def markers(axes):
    """(N, value, whether it is hollow) of every amount."""
    found = []
    for line in axes.get_lines():
        if len(line.get_xdata()) == 1 and line.get_transform() == axes.transData:
            hollow = line.get_markerfacecolor() == "white"
            found.append((round(float(line.get_xdata()[0]), 6), float(line.get_ydata()[0]), hollow))
    return found


def only(records):
    ((_, models, figure),) = savings.make(records)
    return models, figure, panels(figure)[0]


def test_known_amounts_are_filled_and_bounds_are_hollow_with_an_arrow():
    tuned = curve("zero-shot", {0: 5.0}) + curve("fine-tune", {10: 0.2, 100: 0.1, 1000: 0.005})
    _, _, axes = only(SCRATCH + tuned)
    assert markers(axes) == [
        (0.0, 10.0, True),
        (10.0, pytest.approx(50.0), False),
        (100.0, 100.0, False),
        (1000.0, 1000.0, True),
    ]
    assert arrows(axes) == [(0.0, 10.0, False), (1000.0, 1000.0, True)]


def test_the_diagonal_says_where_nothing_is_saved():
    _, figure, axes = only(SCRATCH + curve("fine-tune", {10: 0.2, 100: 0.05}))
    assert [(10.0, 10.0), (100.0, 100.0), (1000.0, 1000.0)] in data(axes)
    assert "no saving" in legend(figure)
    assert axes.get_ylim()[0] < 10 < 1000 < axes.get_ylim()[1]


def test_models_stand_beside_each_other_in_colours_of_their_own():
    records = [*make_suite("one"), *make_suite("two")]
    models, figure, axes = only(records)
    assert models == ["one", "two"]
    assert legend(figure)[:2] == ["one", "two"]
    places = [place for place, _, _ in markers(axes)]
    assert len(set(places)) == len(places)


def test_seeds_give_an_interval():
    records = [
        make_record(protocol=arm, examples=n, error=e * noise, seed=seed)
        for arm, errors in (("scratch", {10: 1.0, 100: 0.1}), ("fine-tune", {10: 0.3}))
        for n, e in errors.items()
        for seed, noise in enumerate((0.8, 1.0, 1.3) if arm == "scratch" else (1.0, 1.2, 0.9))
    ]
    _, _, axes = only(records)
    (segment,) = [segment for collection in axes.collections for segment in collection.get_segments()]
    (low, high), (_, middle, _) = segment[:, 1], markers(axes)[0]
    assert low < middle < high


def test_there_is_no_figure_without_two_sizes_of_scratch_and_a_tuned_one():
    assert savings.make([]) == []
    assert savings.make([*SCRATCH[:1], *curve("fine-tune", {10: 0.2})]) == []
    assert savings.make([*SCRATCH, *curve("zero-shot", {0: 0.2})]) == []
    assert savings.make([*SCRATCH, *curve("fine-tune", {10: 0.2}, status="diverged")]) == []


def test_a_divergence_of_scratch_is_no_number():
    records = [r for r in SCRATCH if r.examples != 100] + curve("scratch", {100: 1.0}, status="diverged")
    _, _, axes = only(records + curve("fine-tune", {10: 0.2}))
    assert arrows(axes) == [(10.0, 1000.0, False)]


def test_the_shift_stands_above_each_panel():
    ((_, _, figure),) = savings.make(make_suite())
    assert [axes.get_title().rpartition("□ ")[2] for axes in panels(figure)] == ["shift: none", "shift: med"]


def uncertain(scratch, tuned):
    """Records of scratch and of fine-tuning from N → errors of the seeds."""
    return [
        make_record(protocol=arm, examples=n, error=error, seed=seed)
        for arm, of_arm in (("scratch", scratch), ("fine-tune", tuned))
        for n, errors in of_arm.items()
        for seed, error in enumerate(errors)
    ]


def test_an_end_of_an_interval_that_is_a_bound_has_an_arrow():
    scratch = {10: (1.0, 1.0, 1.0), 100: (0.1, 0.1, 0.1)}
    _, _, axes = only(uncertain(scratch, {10: (0.5, 0.3, 0.01)}))
    assert markers(axes)[0][2] is False  # the amount itself is known
    assert arrows(axes) == [(10.0, 100.0, True)]
    _, _, axes = only(uncertain(scratch, {10: (2.0, 0.3, 0.01)}))
    assert sorted(arrows(axes)) == [(10.0, 10.0, False), (10.0, 100.0, True)]


def test_an_arrow_that_amount_and_interval_share_is_drawn_once():
    _, figure, axes = only(uncertain({10: (1.0, 1.1), 100: (0.1, 0.2)}, {10: (0.01, 0.02)}))
    assert arrows(axes) == [(10.0, 100.0, True)]
    assert "arrow: more than the largest N tried" in legend(figure)
    assert "arrow: at most this" not in legend(figure)


def test_a_size_without_an_outcome_breaks_the_line():
    tuned = curve("fine-tune", {10: 0.2, 1000: 0.02}) + curve("fine-tune", {100: 1.0}, status="failed")
    _, _, axes = only(SCRATCH + tuned)
    (line,) = [line for line in data(axes) if len(line) == 3 and line[0][1] != 10.0]
    assert [str(y) for _, y in line][1] == "nan"
    assert len(markers(axes)) == 2
