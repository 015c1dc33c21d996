"""What comes of checks, for tests that break a claim on purpose."""

from __future__ import annotations

from collections.abc import Iterable

from pdebench_fm.testing import Check, Skipped


def outcomes(claims: Iterable[tuple[str, Check]]) -> dict[str, str]:
    """The claims that do not hold and what is said of each, and those that are skipped, with ``skipped: reason``."""
    said = {}
    for claim, check in claims:
        try:
            check()
        except Skipped as skipped:
            said[claim] = f"skipped: {skipped}"
        except Exception as error:  # whatever a plugin raises
            said[claim] = str(error)
    return said
