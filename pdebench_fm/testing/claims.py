"""What all conformance checks share: how one fails or is skipped, what it is called, how pytest runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from pdebench_fm.errors import PLUGIN_ERRORS, PdefmError, UnknownNameError
from pdebench_fm.problem import Fields

Check = Callable[[], None]
Subject = TypeVar("Subject")
TOLERANCE = 2e-4
"""Share of their largest value by which fields that should be the same may differ."""


class ConformanceError(PdefmError, AssertionError):
    """Something does not keep the interface; the text says what."""


class Skipped(Exception):  # noqa: N818, it is no error: a check says that it has nothing to check
    """A check does not apply; the text says why. ``pdefm check`` prints it, pytest counts the case as skipped."""


def claims(checks: Iterable[Callable[[Subject], None]], subject: Subject) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check of ``subject``) for each of ``checks``."""
    return ((_claim(check), partial(check, subject)) for check in checks)


def _claim(check: Callable[[Any], None]) -> str:
    return check.__name__.removeprefix("check_")


def parametrised(
    subject: Callable[[], Subject],
    checks: Sequence[Callable[[Subject], None]],
    expected_failures: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Any]:
    """Return a pytest decorator with one case a check.

    Args:
        subject: makes what is checked, when the first case runs and not at collection.
        checks: one a claim.
        expected_failures: claim → reason. Such a case must fail, and pytest shows it as xfailed with the reason.

    Raises:
        UnknownNameError: there is no claim of an expected failure's name.
    """
    import pytest

    expected = expected_failures or {}
    check_expected(expected, [_claim(check) for check in checks])

    made = cache(subject)

    def case(check: Callable[[Subject], None]) -> Check:
        return lambda: in_pytest(partial(check, made()))

    decorate: Callable[[Callable[..., Any]], Any] = pytest.mark.parametrize(
        "check",
        [
            pytest.param(
                case(check),
                id=_claim(check),
                marks=[pytest.mark.xfail(reason=expected[_claim(check)], strict=True, raises=PLUGIN_ERRORS)]
                if _claim(check) in expected
                else [],
            )
            for check in checks
        ],
    )
    return decorate


def check_expected(expected_failures: Mapping[str, str], known: Sequence[str]) -> None:
    """Check that every expected failure names a claim."""
    for claim in expected_failures:
        if claim not in known:
            raise UnknownNameError("claim", claim, known)


def in_pytest(check: Check) -> None:
    """Run a check inside a test: what it skips, pytest skips, with the reason."""
    import pytest

    try:
        check()
    except Skipped as skipped:
        pytest.skip(str(skipped))


def expect(holds: bool, text: str) -> None:
    """Fail with ``text`` unless ``holds``."""
    if not holds:
        raise ConformanceError(text)


def expect_close(first: Fields, second: Fields, text: str, tolerance: float = TOLERANCE) -> None:
    """Fail with ``text`` where fields differ by more than a tolerance, 2e-4 by default, of their largest value."""
    for name, value in first.items():
        scale = max(float(value.detach().abs().max()), 1e-30)
        gap = float((value - second[name]).detach().abs().max()) / scale
        expect(gap <= tolerance, f"{text}: {name} differs by {gap:.1e} of its largest value")
