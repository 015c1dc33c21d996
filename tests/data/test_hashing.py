"""Content hashes and their cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pdebench_fm.data.hashing import content_hash, hash_of
from pdebench_fm.errors import DataFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.h5").write_bytes(b"examples")
    return tmp_path / "a.h5"


def test_a_hash_is_cached_until_the_file_changes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDEFM_CACHE_DIR", str(tmp_path / "cache"))
    expected = hashlib.sha256(b"examples").hexdigest()
    assert content_hash(path) == expected
    (kept,) = (tmp_path / "cache" / "hashes").iterdir()
    kept.write_text("f" * 64)
    assert content_hash(path) == "f" * 64  # from the cache
    kept.write_text("not a hash")
    assert content_hash(path) == expected
    path.write_bytes(b"examples and more")
    assert content_hash(path) == hashlib.sha256(b"examples and more").hexdigest()


def test_another_file_of_the_same_size_and_time_has_its_own_hash(path: Path) -> None:
    before, status = content_hash(path), path.stat()
    other = path.with_name("other.h5")
    other.write_bytes(b"exampleX")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert content_hash(path) != before


def test_a_cache_that_cannot_be_written_does_not_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDEFM_CACHE_DIR", str(path / "below-a-file"))
    assert content_hash(path) == hashlib.sha256(b"examples").hexdigest()
    with pytest.raises(DataFileError, match="cannot be read"):
        content_hash(path.with_name("none.h5"))


def test_the_hash_of_a_folder_covers_names_and_content(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, name, text in zip(folders, ("x", "x", "y"), ("1", "2", "1"), strict=True):
        folder.mkdir()
        (folder / name).write_text(text)
    assert len({hash_of(folder) for folder in folders}) == 3
