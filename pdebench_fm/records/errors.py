"""The error of every test example behind a record: kept beside it, and tied to it by a hash.

A run keeps them in ``jobs/<id>/errors.npy``; a leaderboard and a bundle keep those of a file of records in one archive
beside it, ``<name>.errors.npz``, by their hash: a job that was measured twice has two.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from pdebench_fm.errors import RecordError
from pdebench_fm.records.file import jobs_of
from pdebench_fm.records.record import Record

FILE = "errors.npy"
_HEADER = 128  # bytes before the numbers of a .npy file


def as_kept(errors: np.ndarray) -> np.ndarray:
    """Return errors in the form that is kept and hashed: float32, little-endian, (examples,)."""
    return np.ascontiguousarray(errors, dtype="<f4")


def digest(errors: np.ndarray) -> str:
    """Return the SHA-256 of kept errors."""
    return hashlib.sha256(as_kept(errors).tobytes()).hexdigest()


def archive_of(records: Path) -> Path:
    """Return where the errors of a file of records are kept, beside it."""
    return records.with_name(f"{records.stem}.errors.npz")


def write_archive(errors: Mapping[str, np.ndarray]) -> bytes:
    """Return an archive as bytes; the same errors always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for sha256 in sorted(errors):
            content = io.BytesIO()
            np.save(content, as_kept(errors[sha256]))
            entry = zipfile.ZipInfo(f"{sha256}.npy")  # dated 1980, whenever it is written
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()


def load_errors(path: Path, records: Iterable[Record]) -> dict[str, np.ndarray]:
    """Return the errors of the test examples of some records of one file, by ``errors_sha256``, as far as kept.

    Args:
        path: the file of records: in a run's folder, in a bundle or on a leaderboard.
    """
    wanted = {record.errors_sha256: record.job_id for record in records if record.errors_sha256 is not None}
    archive = archive_of(path)
    try:
        found = _from_archive(archive, wanted) if archive.is_file() else _from_jobs(path, wanted)
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise RecordError(f"{path}: the errors of its test examples cannot be read: {error}") from error
    for sha256, errors in found.items():
        if digest(errors) != sha256:
            raise RecordError(
                f"{path}: the errors of the test examples of {wanted[sha256][:12]}… have changed (SHA-256)"
            )
    return found


def _from_archive(archive: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(archive) as kept:
        there = set(kept.namelist())
        return {sha256: _array(kept.read(f"{sha256}.npy")) for sha256 in wanted if f"{sha256}.npy" in there}


def _from_jobs(path: Path, wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Read them from the folders of jobs, ``OUTPUT/jobs/ID/errors.npy``."""
    jobs = jobs_of(path)
    found = {}
    for sha256, job_id in wanted.items():
        with suppress(FileNotFoundError, NotADirectoryError), open(f"{jobs}/{job_id}/{FILE}", "rb") as file:
            found[sha256] = _array(file.read())
    return found


def _array(content: bytes) -> np.ndarray:
    """Return the array of a ``.npy`` file that `as_kept` made; the hash tells of any other."""
    return np.frombuffer(content, "<f4", offset=_HEADER)
