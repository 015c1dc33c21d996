"""What a run ends with, from records alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from pdebench_fm.records.answers import answers, sentences
from pdebench_fm.records.failures import failure_lines
from pdebench_fm.records.file import collect
from pdebench_fm.records.record import Record
from pdebench_fm.tables.summary import TextGrid, summaries
from tests.support.records import make_pretraining, make_record, make_suite, make_trial

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def smoke() -> list[Record]:
    """The committed records behind the table of the README."""
    return [r for _, r in collect([ROOT / "leaderboard/records/smoke/smoke/fno-64k.jsonl"])]


def test_the_sentence_says_what_the_records_show(smoke: list[Record]) -> None:
    assert sentences(answers(smoke), 1) == [
        "At equal N, pre-training lowers the error on 6 of 6 tasks: scratch error / error after pre-training is 1.7 to "
        "7.2. 16 examples after pre-training beat 64 from scratch on every task: the error is 1.5 to 6.1 times "
        "smaller. One seed: another training may differ."
    ]


def test_the_answers_are_the_numbers_of_the_leaderboard(smoke: list[Record]) -> None:
    found = {answer.task: answer for answer in answers(smoke)}
    errors = {(r.task, r.protocol, r.examples): r.metrics.get("relative_l2", 0.0) for r in smoke}
    task = "SYS-2(1,2)"
    tuned = [errors[task, "fine-tune", n] for n in (16, 64)]
    scratch = [errors[task, "scratch", n] for n in (16, 64)]
    gain = (scratch[0] / tuned[0] * scratch[1] / tuned[1]) ** 0.5
    assert found[task].gains.mean == pytest.approx(gain)
    score = (errors[task, "zero-shot", 0] * tuned[0] * tuned[1]) ** (1 / 3)
    assert found[task].score == pytest.approx(score)
    saving = found[task].saving
    assert saving is not None
    assert (saving.value, saving.more) == (pytest.approx(2.0), 2)


def test_a_pretraining_that_harms_is_said_to(smoke: list[Record]) -> None:
    worse = [
        r.model_copy(update={"metrics": {"relative_l2": 9.0}, "interval": {}}) if r.protocol == "fine-tune" else r
        for r in smoke
    ]
    (text,) = sentences(answers(worse), 1)
    assert text.startswith("At equal N, pre-training lowers the error on 0 of 6 tasks")
    assert "beat" not in text


def test_without_a_score_in_every_planned_cell_there_is_no_score_and_no_mean(smoke: list[Record]) -> None:
    left = [r for r in smoke if (r.task, r.protocol, r.examples) != ("SYS-2(1,2)", "fine-tune", 16)]
    (answer,) = (a for a in answers(left, [r.cell for r in smoke if r.kind == "point"]) if a.task == "SYS-2(1,2)")
    assert answer.score is None
    failed = make_record(task="a", protocol="fine-tune", examples=16, status="failed")
    rest = [make_record(task="a", protocol=arm, examples=n) for arm in ("fine-tune", "scratch") for n in (16, 64)]
    (answer,) = answers([*rest, failed])
    assert answer.gains.mean is None
    (text,) = sentences([answer], 1)
    assert "cannot be compared" in text


def test_what_to_know_before_the_numbers_are_believed_is_told(smoke: list[Record]) -> None:
    assert any("Each search tried two learning rates" in line for line in summaries(smoke)[0].shown)
    records = make_suite()
    rates = [make_trial(rate, error) for rate, error in ((1e-3, 0.3), (1e-2, 0.2), (1e-1, 0.1))]
    unfinished = records[0].model_copy(update={"trials": tuple(rates), "search": "open-high"})
    (told,) = [line for line in summaries([unfinished, *records[1:]])[0].shown if "searches ended" in line]
    assert told.startswith(f"1 of {sum(r.searched is not None for r in records)} searches ended")
    lost = [r.model_copy(update={"notes": {"metric mine": "left out: ZeroDivisionError"}}) for r in make_suite()]
    (summary,) = summaries([*lost, refused := make_record("other", status="unsupported")])
    assert f"Metric mine in {len(lost)} of {len(lost) + 1} results: left out: ZeroDivisionError" in summary.shown
    assert f"Unsupported: 1 of {len(lost) + 1} results: {refused.reason}" in summary.shown
    assert not any("searches ended" in line for line in summary.shown)


def test_from_five_seeds_on_the_interval_decides() -> None:
    (text,) = sentences(answers(make_suite(seeds=5)), 5)
    assert text.endswith("The 95% interval over 5 seeds is above 1 on 2 of 2 tasks.")
    (text,) = sentences(answers(make_suite(seeds=3)), 3)
    assert text.endswith("3 seeds: too few for an interval, which takes 5.")


def test_one_table_of_pretrainings_and_one_of_tasks(smoke: list[Record]) -> None:
    (summary,) = summaries(smoke)
    lines = summary.text().splitlines()
    assert sum(line.startswith("pre-training ") for line in lines) == 1
    assert sum(line.startswith("task ") for line in lines) == 1
    assert sum(" fine-tune " in line for line in lines) == 6
    assert len(lines) < 30


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_nothing_is_cut_and_no_line_is_broken_on_a_narrow_terminal(smoke: list[Record], width: int) -> None:
    other = [
        r.model_copy(
            update={"model": "a-model-with-quite-a-long-name,width=16", "task": f"{r.task} after a long journey"}
        )
        for r in smoke
    ]
    (summary,) = summaries([*smoke, *other])
    text = summary.text(width)
    assert max(map(cell_len, text.splitlines())) <= width
    for word in ("fno-64k", "SYS-2(1,2)", "scratch", "fine-tune", "data", "saving", "under-trained"):
        assert word in text
    numbers = {cell for grid in (summary.pretrainings, summary.tasks) if grid for row in grid.rows for cell in row[4:]}
    assert all(word in text for cell in numbers for word in cell.split())


def test_a_long_label_is_folded_inside_its_column() -> None:
    grid = TextGrid(("task", "error"), [("one that was given a long name", "0.1"), ("表" * 20, "0.2")], labels=1)
    assert grid.text(24).splitlines() == [
        "task               error",
        "─" * 24,
        "one that was         0.1",
        "given a long name",
        "表表表表表表表表     0.2",
        "表表表表表表表表",
        "表表表表",
    ]


def test_names_are_escaped_where_they_could_do_harm() -> None:
    (summary,) = summaries([make_record("<b>a")])
    assert "<b>a" not in summary.html().replace("<p><b>", "")
    assert "&lt;b&gt;a" in summary.html()


def test_a_failed_pretraining_is_named_once_and_what_starts_from_it_is_counted() -> None:
    broken = make_pretraining(status="failed", reason="RuntimeError: boom", error=1.0)
    points = [
        make_record(
            task=f"t{n}", protocol="fine-tune", examples=n, status="failed", pretrain_job_id=broken.job_id,
            reason=f"2 of 2 trials failed: t{n}: its pre-training failed: RuntimeError: boom",
        )
        for n in range(1, 20)
    ]  # fmt: skip
    assert failure_lines([broken, *points, make_record()]) == [
        "failed: pre-training poisson: RuntimeError: boom (19 more points start from it)"
    ]


def test_points_that_fail_for_the_same_reason_are_one_line() -> None:
    def failed(task: str, reason: str) -> Record:
        record = make_record(task=task, protocol="scratch")
        trials = [
            t.model_copy(update={"status": "failed", "reason": reason, "validation": None}) for t in record.trials
        ]
        changes = {"status": "failed", "reason": f"2 of 2 trials failed: {task}: {reason}", "trials": tuple(trials)}
        return record.model_copy(update={**changes, "metrics": {}, "interval": {}})

    assert failure_lines([failed("a", "boom"), failed("b", "boom"), failed("c", "other")]) == [
        "failed: a · scratch · N=16: 2 of 2 trials failed: a: boom (1 more point for the same reason)",
        "failed: c · scratch · N=16: 2 of 2 trials failed: c: other",
    ]
