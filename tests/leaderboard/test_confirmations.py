"""Second measurements: kept beside the first, which ranks, and flagged if they are too far away."""

import csv
import io
import json

import pytest

from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard import RefusedError, add, build, check
from pdebench_fm.leaderboard.audit import Rules
from pdebench_fm.leaderboard.confirmations import Confirmation
from pdebench_fm.leaderboard.lines import read as read_lines
from tests.support.records import make_pretraining, make_record, make_suite, read

ELSEWHERE = {"device": "cuda (Some GPU)", "threads": 4}
FILE = "confirmations/smoke/smoke/conv-small.jsonl"


def again(records, factor=1.0, **changes):
    """The same jobs, measured again."""
    found = []
    for record in records:
        error = record.metrics["relative_l2"] * factor
        scores = {"metrics": {"relative_l2": error}, "interval": {"relative_l2": (0.9 * error, 1.1 * error)}}
        found.append(record.model_copy(update={**scores, **changes}))
    return found


def row_of(board, model="conv-small"):
    text = (board / "leaderboard.csv").read_text(encoding="utf-8")
    return next(row for row in csv.DictReader(io.StringIO(text)) if row["model"] == model)


def test_who_repeats_a_suite_and_adds_the_result_confirms_it(board, run):
    first = make_suite()
    add(board, [run(*first)])
    before = read(board / "records/smoke/smoke/conv-small.jsonl")
    report = add(board, [run(*again(first, 0.706 / 0.708, **ELSEWHERE))])
    assert report.summary() == "0 added, 0 replaced, 0 already there, 11 confirming"
    assert "confirms " in report.confirming[0]
    assert "0.0028 apart" in report.confirming[0]
    assert read(board / "records/smoke/smoke/conv-small.jsonl") == before
    kept = [one for _, one in read_lines(board / "confirmations", Confirmation)]
    assert len(kept) == 11
    assert {(one.device, one.threads) for one in kept} == {("cuda (Some GPU)", 4)}
    assert all(one.difference == pytest.approx(0.002825, rel=1e-3) for one in kept)
    build(board)
    assert check(board) == []
    assert (row_of(board)["confirmed"], row_of(board)["apart"]) == ("1", "0")
    assert row_of(board)["score"] == f"{build_alone(board.parent / 'alone', run, first)}"


def build_alone(board, run, records):
    add(board, [run(*records)])
    build(board)
    return row_of(board)["score"]


def test_a_copy_of_a_measurement_is_no_confirmation(board, run):
    first = make_suite()
    add(board, [run(*first)])
    copies = again(first, train_seconds=9.0, trials=(), commit="f" * 40)
    copies = [copy.model_copy(update={"trials": one.trials}) for copy, one in zip(copies, first, strict=True)]
    assert len(add(board, [run(*copies)]).skipped) == len(first)
    second = again(first, 1.01, **ELSEWHERE)
    assert len(add(board, [run(*second), run(*second)]).skipped) == len(first)
    assert len(add(board, [run(*second)]).skipped) == len(first)
    assert len(read_lines(board / "confirmations", Confirmation)) == len(first)


def test_the_same_bits_elsewhere_are_a_confirmation(board, run):
    first = make_suite()
    add(board, [run(*first)])
    assert len(add(board, [run(*again(first, versions={"pdebench_fm": "9.9"}))]).confirming) == len(first)
    build(board)
    assert row_of(board)["confirmed"] == "1"


def test_what_is_beyond_the_spread_is_flagged_and_confirms_nothing(board, run):
    first = make_suite()
    add(board, [run(*first)])
    second = [*again(first[:1], 1.05, **ELSEWHERE), *again(first[1:], 1.01, **ELSEWHERE)]
    add(board, [run(*second)])
    build(board)
    assert check(board) == []
    readme = (board / "README.md").read_text(encoding="utf-8")
    assert "**10 of 11 results, 1 apart**" in readme
    assert (row_of(board)["confirmed"], row_of(board)["apart"]) == ("10 of 11 results, 1 apart", "1")
    add(board, [run(*again(first, 1.02, device="cpu (other)"))])
    build(board)
    assert "**1, 1 apart**" in (board / "README.md").read_text(encoding="utf-8")
    cells = json.loads((board / "leaderboard.json").read_text(encoding="utf-8"))["cells"]
    assert sum(cell["apart"] for cell in cells) == 1
    assert "beyond the spread" in (board / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("factor", "where", "apart"),
    [(1 + 1e-6, {"threads": 2}, 0), (1.001, {"threads": 2}, 1), (1.001, ELSEWHERE, 0), (1.1, ELSEWHERE, 1)],
)
def test_what_takes_no_training_repeats_more_closely_on_one_kind_of_device(board, run, factor, where, apart):
    first = [make_record("constant", steps=0, epochs=0, learning_rate=None, trials=())]
    add(board, [run(*first)])
    add(board, [run(*again(first, factor, **where))])
    build(board)
    assert row_of(board, "constant")["apart"] == str(apart)


def test_zero_shot_after_a_pretraining_is_trained(board, run):
    pretraining = make_pretraining()
    arm = {"protocol": "zero-shot", "examples": 0, "steps": 0, "epochs": 0, "pretrain_job_id": pretraining.job_id}
    first = [pretraining, make_record(**arm)]
    add(board, [run(*first)])
    add(board, [run(*again(first, 1.01))])
    build(board)
    assert (row_of(board)["confirmed"], row_of(board)["apart"]) == ("1", "0")


@pytest.mark.parametrize("swapped", [False, True])
def test_diverged_beside_ok_is_kept_and_flagged(board, run, swapped):
    both = [make_record(), make_record(status="diverged", **ELSEWHERE)]
    first, second = reversed(both) if swapped else both
    add(board, [run(first)])
    assert "kept beside it" in add(board, [run(second)]).confirming[0]
    assert read(board / "records/smoke/smoke/conv-small.jsonl") == [first]
    build(board)
    assert check(board) == []
    cells = json.loads((board / "leaderboard.json").read_text(encoding="utf-8"))["cells"]
    assert cells[0]["apart"] == (not swapped)


def test_diverged_twice_agrees(board, run):
    add(board, [run(make_record(status="diverged"))])
    add(board, [run(make_record(status="diverged", **ELSEWHERE))])
    assert [one.difference for _, one in read_lines(board / "confirmations", Confirmation)] == [0.0]


def test_a_failed_second_run_says_nothing(board, run):
    add(board, [run(make_record())])
    report = add(board, [run(make_record(status="failed"))])
    assert "it failed, so it says nothing" in report.skipped[0]
    assert not (board / "confirmations").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interval": {"relative_l2": (0.5, 0.6)}}, "outside its own interval"),
        ({"learning_rate": 0.5}, "learning_rate: must be that of its best trial"),
        ({"data_seed": 5}, "data_seed is 5, its job says 0"),
        ({"metrics": {"relative_l2": 1e-300}, "interval": {"relative_l2": (1e-300, 1e307)}}, "cannot be"),
    ],
)
def test_a_second_measurement_must_be_as_sound_as_a_first(board, run, change, message):
    add(board, [run(*make_suite())])
    (second,) = [record for record in make_suite() if record.protocol == "scratch"][:1]
    with pytest.raises(RefusedError, match=message):
        add(board, [run(*again([second], 1.01, **{**ELSEWHERE, **change}))])
    assert not (board / "confirmations").exists()


def test_a_second_measurement_is_verified_like_a_first(board, run):
    def verify(located):
        return ((where, "is not so") for where, record in located if record.threads == 4)

    add(board, [run(*make_suite())])
    with pytest.raises(RefusedError, match=r"run1/records\.jsonl:1: is not so"):
        add(board, [run(*again(make_suite(), 1.01, **ELSEWHERE))], Rules(verify=verify))


def test_two_new_runs_that_disagree_are_kept_and_the_first_named_ranks(board, run):
    report = add(board, [run(make_record()), run(make_record(error=0.2))])
    assert (report.added, len(report.confirming)) == (1, 1)
    assert read(board / "records/smoke/smoke/conv-small.jsonl") == [make_record()]


def test_a_next_version_leaves_the_confirmations_of_the_last(board, run):
    def version(number):
        record = make_record("mine", protocol="scratch")
        job = {**record.job, "model": {**record.job["model"], "version": number}}
        return make_record("mine", protocol="scratch", job=job)

    add(board, [run(version("1"), make_record())])
    add(board, [run(*again([version("1"), make_record()], 1.01))])
    add(board, [run(version("2"))], replace=True)
    assert [one.model for _, one in read_lines(board / "confirmations", Confirmation)] == ["conv-small"]
    build(board)
    assert check(board) == []


def test_check_names_a_confirmation_that_was_changed(board, run):
    add(board, [run(*make_suite())])
    add(board, [run(*again(make_suite(), 1.01))])
    build(board)
    path = board / FILE
    good = path.read_text()

    def wrong(text):
        path.write_text(text)
        return "\n".join(check(board))

    line = json.loads(good.splitlines()[0])
    assert "difference must be 0.01" in wrong(good.replace(json.dumps(line["difference"]), "0.0001", 1))
    assert "there is no result of its job" in wrong(good.replace(line["job_id"], "0" * 64, 1))
    assert "is a copy of" in wrong(good + good.splitlines()[0] + "\n")
    assert "out of order" in wrong("".join(reversed(good.splitlines(keepends=True))))
    assert "jsonl:1: threads: " in wrong(good.replace('"threads": 1', '"threads": -1', 1))
    assert "jsonl:12: line: Invalid JSON" in wrong(good + "{\n")
    with pytest.raises(RecordError, match=r"conv-small\.jsonl:12: line: Invalid JSON"):
        build(board)
    path.write_text(good)
    (board / "confirmations" / "stray.txt").write_text("x")
    assert "stray.txt" in "\n".join(check(board))
