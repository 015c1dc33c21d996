from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm._util.files import replacing


def test_the_old_content_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"):
        _fail_half_way(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_what_a_killed_writer_leaves_is_hidden_and_of_no_known_kind(tmp_path: Path) -> None:
    with replacing(tmp_path / "fno.jsonl") as temporary:
        temporary.write_text("")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert list(tmp_path.rglob("*.jsonl")) == []


def test_the_error_of_the_block_is_the_one_that_is_heard(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as caught, replacing(tmp_path / "file" / "a") as temporary:
        temporary.write_text("")
    assert caught.value.__context__ is None


def _fail_half_way(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
