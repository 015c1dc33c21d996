import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pdebench_fm._util.identity import job_id
from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard import RefusedError, Rules, add, build, check, store
from tests.support.command import PATIENCE
from tests.support.records import make_pretraining, make_record, make_suite, make_trial, read


def files(board):
    return {path.relative_to(board).as_posix(): path.read_bytes() for path in board.rglob("*") if path.is_file()}


def test_records_are_kept_by_suite_profile_and_model(board, run):
    report = add(board, [run(*make_suite(), make_record("other", profile="lite"))])
    assert report.added == 12
    assert set(files(board)) == {"records/smoke/smoke/conv-small.jsonl", "records/smoke/lite/other.jsonl"}
    assert read(board / "records/smoke/lite/other.jsonl") == [make_record("other", profile="lite")]


def test_who_adds_while_another_does_sees_what_the_other_wrote(board, run, monkeypatch):
    """Two that read first and write later would lose what the other added."""
    read_by_both = threading.Barrier(2, timeout=0.5)
    load = store.load

    def slowly(directory):
        found = load(directory)
        with contextlib.suppress(threading.BrokenBarrierError):  # the other waits, as it should
            read_by_both.wait()
        return found

    monkeypatch.setattr(store, "load", slowly)
    runs = [run(make_record(seed=seed)) for seed in (0, 1)]  # of one file
    with ThreadPoolExecutor(2) as both:
        assert [report.added for report in both.map(lambda path: add(board, [path]), runs)] == [1, 1]
    assert len(load(board)) == 2


def test_who_adds_to_another_board_does_not_wait(tmp_path, run):
    def meanwhile(_located):
        other = threading.Thread(target=add, args=(tmp_path / "other", [run(make_record("two"))]), daemon=True)
        other.start()
        other.join(timeout=PATIENCE)
        return []

    add(tmp_path / "board", [run(make_record("one"))], Rules(verify=meanwhile))
    assert set(files(tmp_path / "other")) == {"records/smoke/smoke/two.jsonl"}


def test_the_order_of_adding_leaves_no_trace(tmp_path, run):
    one, two = make_suite("one", seeds=2), make_suite("two")
    add(tmp_path / "a", [run(*one), run(*two)])
    add(tmp_path / "b", [run(*two)])
    add(tmp_path / "b", [run(*reversed(one))])
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_same_outcome_is_skipped_even_where_it_took_longer(board, run):
    add(board, [run(make_record())])
    before = files(board)
    report = add(board, [run(make_record(train_seconds=99.0))])
    assert (report.added, len(report.skipped)) == (0, 1)
    assert files(board) == before


def test_a_failed_record_is_replaced_by_an_outcome_but_a_diverged_one_is_not(board, run):
    add(board, [run(make_record(status="failed"), make_record(seed=1, status="diverged"))])
    assert len(add(board, [run(make_record())]).replaced) == 1
    assert len(add(board, [run(make_record(seed=1))]).confirming) == 1
    assert [record.status for record in read(board / "records/smoke/smoke/conv-small.jsonl")] == ["ok", "diverged"]


def test_unsupported_and_measured_contradict_each_other(board, run):
    add(board, [run(make_record())])
    with pytest.raises(RefusedError, match="is unsupported, but the same job is ok at"):
        add(board, [run(make_record(status="unsupported"))])


def test_all_of_a_model_on_a_suite_gives_way_and_nothing_else_does(board, run):
    there = (make_record("old", seed=1), make_record("old", profile="lite"), make_record("other"))
    add(board, [run(make_record("old"), *there)])
    report = add(board, [run(make_record("old", train_seconds=99.0), make_record("old", seed=2))], replace=True)
    assert (report.added, len(report.replaced), len(report.skipped), len(report.removed)) == (1, 0, 1, 1)
    assert report.removed == [
        f"{board}/records/smoke/smoke/old.jsonl:2: removed: SYS-1(5,10), fine-tune, N = 16, seed 1"
    ]
    kept = read(board / "records/smoke/smoke/old.jsonl")
    assert kept == [make_record("old"), make_record("old", seed=2)]
    assert set(files(board)) == {f"records/smoke/{name}.jsonl" for name in ("lite/old", "smoke/old", "smoke/other")}


def test_a_next_version_is_refused_beside_the_last_and_takes_its_place(board, run):
    def version(number, examples):
        record = make_record("mine", protocol="scratch", examples=examples)
        job = {**record.job, "model": {**record.job["model"], "version": number}}
        return make_record("mine", protocol="scratch", examples=examples, job=job)

    add(board, [run(version("1", 16), version("1", 64), make_record("other"))])
    following = [version("2", 16), version("2", 64)]
    with pytest.raises(RefusedError, match=r"job_id .*`leaderboard add --replace`"):
        add(board, [run(*following)])
    with pytest.raises(RefusedError, match=r"job\.model\.version 2 differs from 1"):  # not the half of it either
        add(board, [run(version("2", 256))])
    report = add(board, [run(*following)], replace=True)
    assert (report.added, len(report.removed)) == (2, 2)
    assert read(board / "records/smoke/smoke/mine.jsonl") == following
    assert read(board / "records/smoke/smoke/other.jsonl") == [make_record("other")]


def test_what_is_refused_replaces_nothing(board, run):
    add(board, [run(make_record(), make_record(seed=1))])
    before = files(board)
    with pytest.raises(RefusedError):
        add(board, [run(make_record(error=0.0))], replace=True)
    assert files(board) == before


@pytest.mark.parametrize("change", [{"error": 0.2}, {"status": "diverged"}])
def test_nobody_replaces_a_result_by_a_second_measurement(board, run, change):
    """Who could, could keep the best of many."""
    add(board, [run(make_record())])
    before = files(board)
    add(board, [run(make_record(**change))], replace=True)
    assert before.items() <= files(board).items()


def test_all_or_nothing(board, run):
    add(board, [run(make_record())])
    before = files(board)
    with pytest.raises(RefusedError):
        add(board, [run(make_record(seed=1), make_record(seed=2, error=0.0))])
    assert files(board) == before


def test_where_one_file_cannot_be_written_none_is(board, run):
    add(board, [run(make_record())])
    (board / "records" / "smoke" / "z").write_text("in the way of a folder")
    before = files(board)
    runs = [run(make_record(profile="a"), make_record(seed=1), make_record(profile="z"))]
    with pytest.raises(OSError, match=r"records/smoke/z"):
        add(board, runs)
    assert files(board) == before


def test_a_name_too_long_for_a_file_is_refused_before_anything_is_written(board, run, tmp_path):
    line = json.loads(make_record().line())
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps({**line, "model": "é" * 200}) + "\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:1: model: is a file name: must be at most 200 bytes"):
        add(board, [run(make_record()), path])
    assert not board.exists()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (make_record(error=0.0), "relative_l2: must be above 0"),
        (make_record(error=2e6), "relative_l2: must be .* at most 1e"),
        (make_record(metrics={"other": 1.0}, interval={}), "metrics has no relative_l2"),
        (make_record(interval={}), "interval has no relative_l2"),
        (make_record(interval={"relative_l2": (0.2, 0.3)}), "outside its own interval"),
        (make_record(test_examples=0), "test_examples is 0"),
        (make_record(learning_rate=1e-2), "learning_rate: must be .*, 0.001, got 0.01"),
        (make_record(trials=(make_trial(), make_trial())), "is listed twice"),
        (make_record(trials=(make_trial(validation=None),)), "none of its trials is"),
        (make_record(trials=(make_trial(), make_trial(1e-2, None, status="failed"))), "yet a trial has failed"),
        (make_record(learning_rate=None), "learning_rate: must be .*, 0.001, got None"),
        (make_record(job=make_record().job, trials=()), r"trials is \[\], its job says"),
        (make_record(pretrain_job_id="a" * 64), "its pre-training aaaaaaaaaaaa… has no record"),
    ],
)
def test_a_record_that_gives_itself_away_is_refused(board, run, record, message):
    with pytest.raises(RefusedError, match=message) as caught:
        add(board, [run(make_record(seed=9), record)])
    assert all("records.jsonl:2: " in line for line in caught.value.refused)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other", "data_seed": 1}, "data_seed"),
        ({"model": "other", "test_examples": 64}, "test_examples"),
        ({"seed": 1, "model_args": {"width": 32}}, "model_args"),
        ({"precision": "float64"}, "job_id .* differs from "),
        ({"model": "other", "shift": "large"}, "shift large differs from med"),
        ({"model": "other", "under_trained": True}, "under_trained True differs from False"),
        ({"model": "Conv-Small"}, "model Conv-Small differs from conv-small"),
    ],
)
def test_what_cannot_be_compared_is_refused(board, run, change, message):
    add(board, [run(make_record())])
    with pytest.raises(RefusedError, match=message):
        add(board, [run(make_record(**change))])


def test_another_version_of_the_suite_may_differ_in_all_of_that(board, run):
    add(board, [run(make_record())])
    add(board, [run(make_record(suite_version=2, data_seed=5, test_examples=64, precision="float64"))])
    assert len(read(board / "records/smoke/smoke/conv-small.jsonl")) == 2


def test_a_pretraining_comes_with_the_points_that_need_it(board, run):
    pretraining = make_pretraining()
    add(board, [run(make_record(pretrain_job_id=pretraining.job_id)), run(pretraining)])
    assert len(read(board / "records/smoke/smoke/conv-small.jsonl")) == 2


def test_a_pretraining_that_diverged_or_belongs_to_another_suite_is_none(board, run):
    diverged = make_pretraining(status="diverged")
    with pytest.raises(RefusedError, match="has no record that is ok on this suite"):
        add(board, [run(make_record(pretrain_job_id=diverged.job_id), diverged)])
    elsewhere = make_pretraining(suite="mixed")
    with pytest.raises(RefusedError, match="has no record that is ok on this suite"):
        add(board, [run(make_record(pretrain_job_id=elsewhere.job_id), elsewhere)])


def test_a_point_scored_with_one_more_metric_is_the_same(board, run):
    first = make_record()
    more = {"metrics": {**first.metrics, "new": 1.0}, "interval": {**first.interval, "new": (0.9, 1.1)}}
    add(board, [run(first)])
    report = add(board, [run(make_record(**more), make_record(seed=1, **more))])
    assert (report.added, len(report.skipped)) == (1, 1)
    other = {**more, "metrics": {"relative_l2": 0.11, "new": 1.0}}
    assert len(add(board, [run(make_record(**other))]).confirming) == 1


def test_two_outcomes_of_one_job_in_a_stored_file_are_refused_and_neither_is_lost(board, run):
    add(board, [run(make_record())])
    path = board / "records/smoke/smoke/conv-small.jsonl"
    other = json.loads(make_record().line())
    other["metrics"]["relative_l2"] = 0.095
    path.write_text(path.read_text() + json.dumps(other) + "\n")
    before = path.read_text()
    with pytest.raises(RefusedError, match=r"conv-small\.jsonl:2: the same job is at .*conv-small\.jsonl:1"):
        add(board, [run(make_record("other"))])
    with pytest.raises(RefusedError, match="there twice"):
        build(board)
    assert path.read_text() == before


def test_a_malformed_line_is_named(board, tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(make_record().line() + "\n{}\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:2: schema: "):
        add(board, [path])


def test_check_names_a_tampered_or_misplaced_record(board, run):
    add(board, [run(*make_suite())])
    path = board / "records/smoke/smoke/conv-small.jsonl"
    good = path.read_text()
    path.write_text(good.replace('"relative_l2": 0.2,', '"relative_l2": NaN,').replace("0.2}", "NaN}", 1))
    assert "finite" in check(board)[0]
    lines = good.splitlines(keepends=True)
    path.write_text("".join(reversed(lines)))
    assert "out of order" in check(board)[0]
    path.write_text(good + lines[-1])
    assert "there twice" in check(board)[0]
    path.write_text(good)
    path.rename(path.with_name("other.jsonl"))
    assert "belongs in" in check(board)[0]
    (board / "records" / "stray.txt").write_text("x")
    assert any("stray.txt: holds no record" in line for line in check(board))


@pytest.mark.parametrize("place", ['"status": "ok"', '"relative_l2": 0.1', '"width": 16'])
def test_a_key_given_twice_is_dropped_on_the_way_in_and_found_in_a_board(board, run, place):
    run_file = run(make_record(), make_record(seed=1))
    lines = run_file.read_text().splitlines(keepends=True)
    assert place in lines[1]
    lines[1] = lines[1].replace(place, f"{place}, {place}", 1)
    run_file.write_text("".join(lines))
    add(board, [run_file])
    path = board / "records/smoke/smoke/conv-small.jsonl"
    assert read(path) == [make_record(), make_record(seed=1)]
    assert all(record.line() in path.read_text().splitlines() for record in read(path))
    path.write_text("".join(lines))
    assert check(board)[0] == f"{path}:2: is not as pdefm leaderboard writes it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "seed is 3, its job says 0"),
        ({"examples": 64}, "examples is 64, its job says 16"),
        ({"model_args": {"width": 99}}, "model_args is"),
        ({"protocol": "scratch"}, "protocol is 'scratch', its job says 'fine-tune'"),
        ({"precision": "bfloat16"}, "precision is 'bfloat16'"),
        ({"test_examples": 9999}, "test_examples is 9999, its job says 256"),
        ({"data_seed": 4}, "data_seed is 4, its job says"),
        ({"pretrain_job_id": "0" * 64}, "pretrain_job_id is"),
    ],
)
def test_a_record_that_misstates_its_job_is_refused(board, run, change, message):
    true = make_record()
    with pytest.raises(RefusedError, match=message):
        add(board, [run(true.model_copy(update=change))])


@pytest.mark.parametrize("stated", ["lora", "lora(rank=4)", "lora(scale=0.5,rank=4)"])
def test_an_arm_is_named_after_its_protocol_and_what_the_suite_gave(board, run, stated):
    true = make_record(protocol="lora")
    job = {**true.job, "protocol": {"name": "lora", "version": "1", "arguments": {"rank": 4, "scale": 0.5}}}
    true = true.model_copy(update={"job": job, "job_id": job_id(job), "protocol": stated})
    add(board, [run(true)])
    for wrong in ("lora(rank=8)", "lora(width=4)", "head-only(rank=4)"):
        with pytest.raises(RefusedError, match=r"protocol is .*, its job says 'lora"):
            add(board, [run(true.model_copy(update={"protocol": wrong}))])


@pytest.mark.parametrize("name", ["examples", "parameters"])
def test_numbers_beyond_all_measure_are_malformed(board, run, name):
    with pytest.raises(RecordError, match=rf"{name}: must be at most 9007199254740992"):
        add(board, [run(make_record().model_copy(update={name: 10**400}))])
