import subprocess
import sys

import pytest

import pdebench_fm
from pdebench_fm.errors import RecordError
from pdebench_fm.records.frame import to_frame
from tests.support.command import PATIENCE
from tests.support.records import append, make_pretraining, make_record, make_suite


def test_each_record_is_a_row_in_order():
    records = make_suite(seeds=2)
    frame = to_frame(records)
    assert list(frame.job_id) == [record.job_id for record in records]
    assert list(frame.examples) == [record.examples for record in records]
    assert list(frame.error) == [record.metrics["relative_l2"] for record in records]
    assert (frame.low < frame.error).all()
    assert (frame.error < frame.high).all()


def test_the_docstring_names_every_column():
    text = to_frame.__doc__.split("Columns:")[1]
    named = {name.strip() for line in text.splitlines() if ":" in line for name in line.split(":")[0].split(",")}
    records = [make_record(metrics={"relative_l2": 0.1, "NAME": -1.0}, interval={"NAME": (-2.0, 0.0)})]
    assert named == set(to_frame(records).columns)


def test_other_metrics_have_columns_and_are_missing_where_a_record_lacks_them():
    skilled = make_record(metrics={"relative_l2": 0.1, "skill": -2.5}, interval={"skill": (-3.0, -2.0)})
    frame = to_frame([skilled, make_record(seed=1)])
    assert frame.loc[0, ["metric.skill", "metric.skill.low", "metric.skill.high"]].tolist() == [-2.5, -3.0, -2.0]
    assert frame["metric.skill"].isna().tolist() == [False, True]


def test_a_diverged_record_has_no_error():
    frame = to_frame([make_record(status="diverged")])
    assert frame.error.isna().all()
    assert frame.status.tolist() == ["diverged"]


@pytest.mark.parametrize("records", [[], [make_pretraining()], [make_record(protocol="zero-shot", parameters=None)]])
def test_types_of_columns_do_not_depend_on_the_records(records):
    assert to_frame(records).dtypes[["error", "learning_rate", "parameters"]].map(str).tolist() == [
        "float64",
        "float64",
        "Int64",
    ]


def test_load_records_reads_one_run_or_several_and_says_where_each_record_is(tmp_path):
    for model in ("one", "two"):
        append(tmp_path / model / "records.jsonl", make_suite(model))
    frame = pdebench_fm.load_records(tmp_path)
    assert set(frame.model) == {"one", "two"}
    assert frame.place[0] == f"{tmp_path / 'one' / 'records.jsonl'}:1"
    assert len(pdebench_fm.load_records([str(tmp_path / "one"), tmp_path / "two" / "records.jsonl"])) == len(frame)
    with pytest.raises(RecordError, match=r"nothing: No such file"):
        pdebench_fm.load_records(tmp_path / "nothing")


def test_pandas_is_imported_only_when_it_is_used():
    code = "import sys, pdebench_fm, pdebench_fm.records.frame, pdebench_fm.cli; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
