import json

import pytest
from hypothesis import strategies as st

from pdebench_fm._util.identity import canonical_json, job_id
from pdebench_fm.errors import RecordError
from pdebench_fm.records.file import add, collect, parse
from pdebench_fm.records.record import Record
from tests.support.records import append, make_record, read


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
    with pytest.raises(RecordError, match=r"here:1: metrics\.relative_l2: must be greater than or equal to 0"):
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
    old = make_record(error=0.5, job={"code": "old"})
    new = make_record(error=0.4, job={"code": "new"})
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
