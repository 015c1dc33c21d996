"""A leaderboard, and runs to add to it."""

import pytest

from tests.support.records import append


@pytest.fixture
def board(tmp_path):
    return tmp_path / "board"


@pytest.fixture
def run(tmp_path):
    """Write records to a file of a run of their own."""
    count = iter(range(1000))

    def write(*records):
        path = tmp_path / f"run{next(count)}" / "records.jsonl"
        append(path, records)
        return path

    return write
