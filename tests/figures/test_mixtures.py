from pdebench_fm.figures import mixtures
from tests.figures.support import bands, curve, data, legend, panels
from tests.support.records import make_pretraining, with_job


def task(name, source, sampler, factor, model="conv-small", named=True):
    """Records of one task: its pre-training, and three arms on a downstream distribution."""
    pretraining = make_pretraining(model, source)
    common = {"task": name, "model": model}
    warm = {**common, "pretrain_job_id": pretraining.job_id}
    points = curve("zero-shot", {0: factor}, **warm) + curve("fine-tune", {16: factor / 2, 64: factor / 4}, **warm)
    points += curve("scratch", {16: 2.0, 64: 1.0}, **common)
    test = {"sets": [{"count": 256, "sampler": sampler} if named else {"count": 256}]}
    return [pretraining, *(with_job(point, test=test) for point in points)]


OWN = task("SYS-1(5,10)", "poisson", "p", 0.4)
MIXED = task("SYS-1(5,10) from mixed", "mixed", "p", 0.8)


def test_tasks_with_the_same_downstream_examples_share_a_panel():
    other = task("SYS-2(1,2)", "advection-diffusion", "a", 0.3) + task("SYS-2(1,2) from mixed", "mixed", "a", 0.6)
    ((_, models, figure),) = mixtures.make([*OWN, *MIXED, *other])
    assert models == ["conv-small"]
    assert [axes.get_title().split("\n")[0] for axes in panels(figure)] == ["SYS-1(5,10)", "SYS-2(1,2)"]
    names = ["advection-diffusion", "mixed", "poisson"]
    assert legend(figure) == [*(f"pre-trained on {name}" for name in names), "from scratch"]


def test_each_pretraining_is_a_line_with_its_zero_shot_and_scratch_is_drawn_once():
    ((_, _, figure),) = mixtures.make([*OWN, *MIXED])
    lines = data(panels(figure)[0])
    for factor in (0.4, 0.8):
        assert [(0.0, factor)] in lines
        assert [(16.0, factor / 2), (64.0, factor / 4)] in lines
    assert lines.count([(16.0, 2.0), (64.0, 1.0)]) == 1


def test_there_is_no_panel_for_one_pretraining_or_an_unknown_one():
    assert mixtures.make(OWN) == []
    assert mixtures.make([*OWN, *task("again", "poisson", "p", 0.8)]) == []
    assert mixtures.make([*OWN, *task("elsewhere", "mixed", "q", 0.8)]) == []
    assert mixtures.make([*OWN, *(record for record in MIXED if record.kind == "point")]) == []


def test_test_sets_that_do_not_say_what_they_are_are_not_taken_for_equal():
    tasks = [*task("one", "poisson", "p", 0.4, named=False), *task("two", "mixed", "p", 0.8, named=False)]
    assert mixtures.make(tasks) == []
    nothing = {"sets": []}
    assert mixtures.make([with_job(record, test=nothing) for record in [*OWN, *MIXED]]) == []


def test_models_have_figures_of_their_own():
    others = task("SYS-1(5,10)", "poisson", "p", 1.0, "other") + task("mixed", "mixed", "p", 1.0, "other")
    assert [models for _, models, _ in mixtures.make([*OWN, *MIXED, *others])] == [["conv-small"], ["other"]]


def test_several_seeds_show_their_quartiles():
    def seeded(records):
        return [
            *records,
            *(
                r.model_copy(
                    update={
                        "seed": 1,
                        "job_id": r.job_id[::-1],
                        "metrics": {"relative_l2": 2 * r.metrics["relative_l2"]},
                    }
                )
                for r in records
                if r.kind == "point"
            ),
        ]

    ((_, _, figure),) = mixtures.make(seeded(OWN) + seeded(MIXED))
    corners = [set(outline) for band in bands(panels(figure)[0]) for outline in band]
    assert any({(16.0, 0.2), (16.0, 0.4), (64.0, 0.1), (64.0, 0.2)} <= found for found in corners)
    assert len(corners) == 3
    assert "quartiles over seeds" in legend(figure)
    ((_, _, figure),) = mixtures.make([*OWN, *MIXED])
    assert not panels(figure)[0].collections
