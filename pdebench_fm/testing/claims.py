"""What all conformance checks share: how one fails, what it is called, how pytest runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from pdebench_fm.errors import PdefmError
from pdebench_fm.problem import Fields

Check = Callable[[], None]
_TOLERANCE = 2e-4


class ConformanceError(PdefmError, AssertionError):
    """Something does not keep the interface; the text says what."""


def claims(checks: Iterable[Callable[[Any], None]], subject: Any) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check of ``subject``) for each of ``checks``."""
    return ((_claim(check), partial(check, subject)) for check in checks)


def _claim(check: Callable[[Any], None]) -> str:
    return check.__name__.removeprefix("check_")


def parametrised(
    checks: Callable[[], Iterator[tuple[str, Check]]], functions: Sequence[Callable[[Any], None]]
) -> Callable[[Callable[..., Any]], Any]:
    """Return a pytest decorator with one case a check; the subject is looked up when a case runs, not at collection."""
    import pytest

    def case(number: int) -> Check:
        return lambda: list(checks())[number][1]()

    decorate: Callable[[Callable[..., Any]], Any] = pytest.mark.parametrize(
        "check", [pytest.param(case(i), id=_claim(function)) for i, function in enumerate(functions)]
    )
    return decorate


def expect(holds: bool, text: str) -> None:
    """Fail with ``text`` unless ``holds``."""
    if not holds:
        raise ConformanceError(text)


def expect_close(first: Fields, second: Fields, text: str) -> None:
    """Fail with ``text`` where fields differ by more than 2e-4 of their largest value."""
    for name, value in first.items():
        scale = max(float(value.detach().abs().max()), 1e-12)
        gap = float((value - second[name]).detach().abs().max()) / scale
        expect(gap <= _TOLERANCE, f"{text}: {name} differs by {gap:.1e} of its largest value")
