import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import pdebench_fm
from pdebench_fm._util.identity import canonical_json, job_id
from pdebench_fm.errors import RecordError
from pdebench_fm.records.file import add, collect, parse
from pdebench_fm.records.record import Record, json_schema
from tests.support.records import append, make_record, make_suite, make_trial, read, with_job


def test_job_id_does_not_depend_on_the_order_of_keys():
    assert job_id({"a": 1, "b": [1.5, None]}) == job_id({"b": [1.5, None], "a": 1})


def test_job_id_is_golden():
    assert job_id({"b": [1, 2.5], "a": "Ψ"}) == "fc045ded10752e3ed9652596ba6169dd28ad5c61b4ccbec637df4fe5e5ee7caa"


def test_canonical_json_refuses_what_has_no_single_text():
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _plain))
def test_job_id_survives_a_file(description):
    assert job_id(json.loads(json.dumps(description))) == job_id(description)


def test_a_record_survives_its_line():
    for record in [*make_suite(), make_record(status="diverged"), make_record(notes={"adapter": "zero-padded"})]:
        assert parse(record.line(), "here:1") == record
        assert "\n" not in record.line()


def test_a_line_has_the_keys_of_the_schema():
    line = json.loads(make_record().line())
    schema = json_schema()
    assert set(schema["required"]) <= set(line) <= set(schema["properties"])
    assert line["schema"] == 1


def test_a_line_that_was_read_is_written_as_it_was():
    for path in sorted((Path(__file__).parents[2] / "leaderboard" / "records").glob("ood_sys1/*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert parse(line, str(path)).line() == line


TIMED = {"inference_seconds": 1e-3, "inference_batch": 64, "inference_device": "cpu, threads: 1"}


def test_what_a_prediction_costs_is_optional_and_stated_with_batch_and_device():
    assert "flops" not in json.loads(make_record().line())
    record = make_record(flops=10, peak_memory=2**30, **TIMED)
    assert parse(record.line(), "here:1") == record
    for name in TIMED:
        with pytest.raises(ValueError, match="must be given together"):
            make_record(**{**TIMED, name: None})
    with pytest.raises(ValueError, match="status 'diverged' must have no flops"):
        make_record(status="diverged", flops=10)


def test_the_shipped_schema_is_up_to_date():
    shipped = Path(pdebench_fm.__file__).with_name("record.schema.json").read_text(encoding="utf-8")
    assert json.loads(shipped) == json_schema()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {}}, "needs metrics"),
        ({"metrics": {"relative_l2": -0.1}}, "metrics.relative_l2: must be at least 0, got -0.1"),
        ({"status": "diverged"}, "must have empty metrics"),
        ({"status": "diverged", "metrics": {}, "interval": {}}, "needs a reason"),
        ({"status": "fine"}, "status: unknown value 'fine'"),
        ({"interval": {"other": [0, 1]}}, "interval.other: must name one of the metrics"),
        ({"interval": {"relative_l2": [2, 1]}}, "low <= high"),
        ({"job": {"kind": "point"}}, "job_id must be the SHA-256 of job"),
        ({"job_id": "abc"}, "job_id: "),
        ({"kind": "pretraining"}, "contradicts protocol"),
        ({"train_seconds": -1.0}, "train_seconds: must be at least 0, got -1"),
        ({"seed": "0"}, "seed: must be a whole number, got '0'"),
        ({"seed": True}, "seed: must be a whole number, got true"),
        ({"validation_examples": -1}, "validation_examples: must be at least 0, got -1"),
        ({"statu": "ok"}, "statu: unknown key; did you mean 'status'?"),
        ({"schema_version": 1}, "schema_version: unknown key"),
        ({"schema": 2}, "schema: must be 1, got 2"),
        ({"model": "../evil"}, "model: is a file name"),
        ({"suite": "a\\b"}, "suite: is a file name"),
        ({"protocol": ""}, "protocol: "),
        ({"task": "a\u202eb"}, "task: must be one line without control characters"),
        ({"reason": "two\nlines"}, "reason: must be one line"),
        ({"trials": [{}]}, "trials.0.job_id: is required"),
    ],
)
def test_an_error_is_one_line_that_names_file_line_key_and_what_was_expected(change, message):
    data = {**json.loads(make_record().line()), **change}
    with pytest.raises(RecordError) as caught:
        parse(json.dumps(data), "runs/records.jsonl:7")
    assert str(caught.value).startswith("runs/records.jsonl:7: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


LATER = {"validation_examples", "budget", "coefficient_rise", "overlap", "search", "errors_sha256"}  # not in older ones


@pytest.mark.parametrize("key", sorted(json.loads(make_record().line()).keys() - LATER))
def test_every_key_is_required(key):
    data = json.loads(make_record().line())
    del data[key]
    with pytest.raises(RecordError, match=f"{key}: is required"):
        parse(json.dumps(data), "here:1")


@pytest.mark.parametrize("key", sorted(LATER))
def test_a_record_older_than_a_key_is_read_and_says_that_it_is_not_known(key):
    budget = {"epochs": 2, "steps": None, "batch_size": 8}
    newer = {"validation_examples": 128, "budget": budget, "coefficient_rise": 1.5, "overlap": 0.5, "search": "closed"}
    newer["errors_sha256"] = "0" * 64
    data = json.loads(make_record(**newer).line())
    assert data.pop(key) is not None
    assert getattr(parse(json.dumps(data), "here:1"), key) is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ['"train_seconds": 2.5', '"width": 16', '"relative_l2": 0.1'])
def test_numbers_are_finite_everywhere(place, value):
    line = make_record().line()
    assert place in line
    with pytest.raises(RecordError, match=r"here:1: .*(finite|JSON)"):
        parse(line.replace(place, f"{place.split(':')[0]}: {value}", 1), "here:1")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"schema": 1, "schema": 1}', "[" * 100_000])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(RecordError, match="here:1: "):
        parse(text, "here:1")


@pytest.mark.parametrize("key", ["suite", "profile", "model"])
def test_a_name_that_becomes_a_file_name_has_at_most_200_bytes(key):
    data = json.loads(make_record().line())
    data[key] = "é" * 100
    with pytest.raises(RecordError, match=f"here:1: {key}: is a file name: must be at most 200 bytes.* got 202"):
        parse(json.dumps({**data, key: "é" * 101}), "here:1")
    assert getattr(parse(json.dumps(data), "here:1"), key) == "é" * 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": "x"}, "job.start: must be a mapping, got 'x'"),
        ({"start": {"from": "nothing"}}, "job.start.from: unknown value 'nothing'"),
        ({"start": {"from": "weights"}}, "job.start: must have a sha256 if it is from weights"),
        ({"start": {"from": "pretrained", "sha256": "ab"}}, "job.start: must have a sha256 if it is from weights"),
        ({"train": {}}, "job.train.sets: is required"),
        ({"test": {"sets": [{"count": -1}]}}, "job.test.sets.0.count: must be at least 0, got -1"),
    ],
)
def test_a_job_is_the_description_of_a_point(change, message):
    data = json.loads(make_record().line())
    job = {**data["job"], **change}
    with pytest.raises(RecordError, match=re.escape(f"here:1: {message}")):
        parse(json.dumps({**data, "job": job, "job_id": job_id(job)}), "here:1")


def test_a_description_gives_back_what_it_was_read_from():
    job = {**make_record().job, "start": {"from": "weights", "sha256": "ab" * 32}, "unknown": [1]}
    record = with_job(make_record(), **job)
    assert (record.described.plain(), record.own_weights) == (job, "ab" * 32)


def test_a_record_cannot_be_changed():
    with pytest.raises(ValidationError):
        make_record().seed = 3


def test_a_trial_has_a_validation_error_exactly_where_it_is_ok():
    with pytest.raises(ValidationError, match="contradicts"):
        make_trial(validation=0.1, status="failed", reason="x")
    with pytest.raises(ValidationError, match="needs a reason"):
        make_trial(validation=None, reason="")


@pytest.mark.parametrize("rest", ["hello", "[1, 2", '{"seed": 1', " ", "{}"])
def test_a_malformed_last_line_is_an_error(tmp_path, rest):
    path = tmp_path / "records.jsonl"
    path.write_text(make_record(seed=1).line() + "\n" + rest)
    with pytest.raises(RecordError, match=r"records\.jsonl:2: "):
        read(path)


@pytest.mark.parametrize("length", [0, 1, 5, 200, -1])
def test_half_a_line_of_a_killed_writer_makes_room_for_the_next(tmp_path, length):
    path = tmp_path / "records.jsonl"
    one, two = make_record(seed=1), make_record(seed=2)
    end = add(path, one, 0)
    path.write_text(one.line() + "\n" + two.line()[:length])
    assert add(path, two, end) == path.stat().st_size
    assert path.read_text() == one.line() + "\n" + two.line() + "\n"


def test_a_whole_last_line_that_lacks_its_end_is_kept(tmp_path):
    path = tmp_path / "records.jsonl"
    one, two = make_record(seed=1), make_record(seed=2)
    path.write_text(one.line())
    assert add(path, two, path.stat().st_size) == path.stat().st_size
    assert path.read_text() == one.line() + "\n" + two.line() + "\n"


def test_whole_lines_of_another_writer_are_kept_where_locks_do_not_work(tmp_path):
    path = tmp_path / "records.jsonl"
    end = add(path, make_record(seed=1), 0)
    add(path, make_record(seed=2), end)
    add(path, make_record(seed=3), end)
    assert [record.seed for record in read(path)] == [1, 2, 3]


def test_a_record_is_added_without_writing_the_others_again(tmp_path):
    path = tmp_path / "records.jsonl"
    end = add(path, make_record(seed=1), 0)
    before = path.stat()
    add(path, make_record(seed=2), end)
    assert path.stat().st_ino == before.st_ino
    assert len(read(path)) == 2


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "records.jsonl"
    end = add(path, make_record(seed=1), 0)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            add(path, make_record(seed=2), end)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before


def test_a_metric_may_be_negative_but_a_relative_error_may_not():
    line = make_record(metrics={"relative_l2": 0.1, "skill": -2.5}, interval={"skill": (-3.0, -2.0)}).line()
    assert parse(line, "here:1").metrics["skill"] == -2.5
    with pytest.raises(RecordError, match=r"here:1: metrics\.relative_l2: must be at least 0"):
        parse(line.replace('"relative_l2": 0.1', '"relative_l2": -0.1'), "here:1")


def test_a_whole_line_without_its_ending_is_read(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(make_record().line())
    assert read(path) == [make_record()]


def test_any_other_malformed_line_is_an_error(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text(make_record().line() + "\n\n" + make_record(seed=1).line() + "\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:2: not a record"):
        read(path)
    path.write_bytes(b"\xff\n")
    with pytest.raises(RecordError, match=r"records\.jsonl:1: not a record"):
        read(path)
    with pytest.raises(RecordError, match="No such file"):
        read(tmp_path / "none.jsonl")


def test_an_empty_file_has_no_records(tmp_path):
    path = tmp_path / "records.jsonl"
    path.touch()
    assert read(path) == []


def test_collect_searches_folders_and_takes_the_newest_of_each_place(tmp_path):
    old = with_job(make_record(error=0.5), training="old")
    new = with_job(make_record(error=0.4), training="new")
    append(tmp_path / "smoke" / "conv" / "records.jsonl", [old, new])
    assert [(where.rpartition("/")[2], record) for where, record in collect([tmp_path])] == [("records.jsonl:2", new)]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=r"holds no records\.jsonl"):
        collect([tmp_path / "empty"])


def test_collect_finds_the_records_of_a_leaderboard_and_not_the_histories_of_jobs(tmp_path):
    folder = tmp_path / "smoke" / "lite"
    append(folder / "one.jsonl", [make_record("one")])
    append(folder / "two.jsonl", [make_record("two")])
    assert [record.model for _, record in collect([tmp_path])] == ["one", "two"]
    (tmp_path / "runs" / "jobs" / "ab").mkdir(parents=True)
    (tmp_path / "runs" / "jobs" / "ab" / "history.jsonl").write_text("{}\n", encoding="utf-8")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "jobs", tmp_path / "runs" / "jobs" / "ab"):
        with pytest.raises(RecordError, match=r"holds no records\.jsonl") as caught:
            collect([folder])
        assert caught.value.exit_code == 2


def test_collect_leaves_out_folders_of_jobs_and_no_others_of_that_name(tmp_path):
    append(tmp_path / "jobs" / "a" / "tiny" / "one" / "records.jsonl", [make_record("one")])
    job = tmp_path / "jobs" / "a" / "jobs" / ("0" * 64)
    append(job / "model" / "records.jsonl", [make_record("two")])
    assert [record.model for _, record in collect([tmp_path])] == ["one"]


def test_a_record_is_made_from_plain_values_of_numpy():
    numpy = pytest.importorskip("numpy")
    record = make_record(error=numpy.float64(0.25))
    assert isinstance(record, Record)
    assert json.loads(record.line())["metrics"] == {"relative_l2": 0.25}


def test_byte_order_marks_are_no_part_of_a_record(tmp_path):
    path = tmp_path / "records.jsonl"
    one, other = make_record(seed=0), make_record(seed=1)
    append(path, [one])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\xef\xbb\xbf" + other.line().encode())
    assert read(path) == [one, other]
