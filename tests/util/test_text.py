from __future__ import annotations

import pytest

from pdebench_fm._util.text import named, one_line, quoted, reason_of
from pdebench_fm.errors import UsageError


def test_white_space_of_any_kind_becomes_one_space() -> None:
    assert one_line("  a\n\tb\r\n c ") == "a b c"


def test_what_somebody_else_says_reaches_no_terminal_raw_and_ends() -> None:
    assert quoted("a\n\x1b[2J") == "a \\x1b[2J"
    assert len(quoted("a" * 501)) == 500


@pytest.mark.parametrize(
    ("error", "explained", "with_type"),
    [
        (UsageError("must be\npositive"), "must be positive", "UsageError: must be positive"),
        (ValueError("no\nroom"), "ValueError: no room", "ValueError: no room"),
        (KeyError("grid"), "KeyError: 'grid'", "KeyError: 'grid'"),
    ],
)
def test_an_error_of_ours_speaks_for_itself_and_any_other_needs_its_type(
    error: Exception, explained: str, with_type: str
) -> None:
    assert reason_of(error) == explained
    assert named(error) == with_type
