"""The errors of the test examples behind a record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pdebench_fm.errors import RecordError
from pdebench_fm.records.errors import FILE, archive_of, digest, load_errors, write_archive
from tests.support.records import make_record

ERRORS = np.random.default_rng(0).lognormal(size=50)
RECORD = make_record(errors_sha256=digest(ERRORS))


def in_a_run(folder: Path, errors: np.ndarray) -> Path:
    """Keep errors as a run does, and return the path of its records."""
    job = folder / "jobs" / RECORD.job_id
    job.mkdir(parents=True)
    np.save(job / FILE, errors.astype(np.float32))
    return folder / "smoke" / "conv-small" / "records.jsonl"


def in_an_archive(folder: Path, errors: np.ndarray) -> Path:
    path = folder / "conv-small.jsonl"
    archive_of(path).write_bytes(write_archive({digest(ERRORS): errors}))
    return path


@pytest.mark.parametrize("keep", [in_a_run, in_an_archive])
def test_errors_are_found_beside_their_record(tmp_path: Path, keep) -> None:  # type: ignore[no-untyped-def]
    found = load_errors(keep(tmp_path, ERRORS), [RECORD, make_record(seed=1)])
    assert list(found) == [digest(ERRORS)]
    assert np.array_equal(found[digest(ERRORS)], ERRORS.astype(np.float32))


@pytest.mark.parametrize("keep", [in_a_run, in_an_archive])
def test_errors_of_another_model_are_refused(tmp_path: Path, keep) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RecordError, match=r"have changed \(SHA-256\)"):
        load_errors(keep(tmp_path, 0.9 * ERRORS), [RECORD])


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    path = in_an_archive(tmp_path, ERRORS)
    content = bytearray(archive_of(path).read_bytes())
    content[40] ^= 1
    archive_of(path).write_bytes(content)
    with pytest.raises(RecordError, match="cannot be read"):
        load_errors(path, [RECORD])


def test_the_same_errors_give_the_same_archive() -> None:
    assert write_archive({"b": ERRORS, "a": ERRORS[:3]}) == write_archive({"a": ERRORS[:3], "b": ERRORS})


def test_nothing_is_looked_for_without_a_hash(tmp_path: Path) -> None:
    assert load_errors(tmp_path / "records.jsonl", [make_record()]) == {}
