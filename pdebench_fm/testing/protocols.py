"""Checks of a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pdebench_fm.interfaces import TransferProtocol
from pdebench_fm.testing.claims import Check, claims, expect, parametrised, registered


def protocol_checks(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered protocol."""
    return parametrised(lambda: registered("protocol", name), PROTOCOL_CHECKS)


def checks_of_protocol(name: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered protocol.

    Raises:
        UnknownNameError: nobody registered it.
        ConformanceError: it cannot be made.
    """
    return claims(PROTOCOL_CHECKS, registered("protocol", name))


def check_sizes_are_counts(protocol: TransferProtocol) -> None:
    """Sizes are distinct, increasing counts: zero or sizes of the suite."""
    sizes = list(protocol.sizes([8, 32]))
    expect(len(sizes) > 0, "sizes must name at least one number of examples")
    expect(sizes == sorted(set(sizes)) and min(sizes) >= 0, f"sizes must increase from 0 up, got {sizes}")


def check_start_is_known(protocol: TransferProtocol) -> None:
    """It starts from the pre-trained or from an initialised model."""
    expect(protocol.starts_from in ("pretrained", "initialised"), f"starts_from is {protocol.starts_from!r}")


PROTOCOL_CHECKS: tuple[Callable[[TransferProtocol], None], ...] = (check_sizes_are_counts, check_start_is_known)
