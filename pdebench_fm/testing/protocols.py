"""Checks of a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import Any

from pdebench_fm.errors import PluginError
from pdebench_fm.interfaces import Examples, FitReport, OperatorModel, TransferProtocol
from pdebench_fm.problem import Fields, Problem
from pdebench_fm.registry.calling import refusal_reason
from pdebench_fm.testing.claims import Check, ConformanceError, claims, expect, parametrised, registered


def protocol_checks(
    name: str, *, expected_failures: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks a registered protocol; ``expected_failures`` maps claims to reasons."""
    return parametrised(lambda: registered("protocol", name), PROTOCOL_CHECKS, expected_failures)


def checks_of_protocol(name: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a registered protocol.

    Raises:
        UnknownNameError: it is not registered.
        ConformanceError: it cannot be made.
    """
    return claims(PROTOCOL_CHECKS, registered("protocol", name))


def check_sizes_are_counts(protocol: TransferProtocol) -> None:
    """Sizes are counts, at least one, that rise from 0 up."""
    sizes = list(protocol.sizes((8, 32)))
    counts = all(isinstance(size, Integral) and not isinstance(size, bool) and size >= 0 for size in sizes)
    rising = counts and sizes == sorted(set(sizes))
    expect(bool(sizes) and rising, f"sizes must be rising whole numbers from 0 up, at least one, got {sizes}")


def check_start_is_known(protocol: TransferProtocol) -> None:
    """It starts from the pre-trained or from an initialised model."""
    start = protocol.starts_from
    known = ("pretrained", "initialised")
    expect(start in known, f"starts_from must be 'pretrained' or 'initialised', got {start!r}")


def check_refuses_says_why(protocol: TransferProtocol) -> None:
    """Asked whether it can use a model, whatever that declares, it answers None or gives a reason."""
    for learns, warm, scratch in product((True, False), repeat=3):
        declared = {"learns_from_pretraining": learns, "warm_starts": warm, "from_scratch": scratch}
        model = type("Unfitted", (_Unfitted,), declared)()
        with _as_in_a_run():
            refusal_reason("the protocol: refuses", partial(protocol.refuses, model))


class _Unfitted(OperatorModel):
    """A model to ask about: a protocol decides by what a model declares, before anything is fitted.

    ``refuses`` is all that it is handed to, so that a protocol which fits or predicts with it there has not asked but
    begun, and breaks the check.
    """

    parameters = 0

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        raise NotImplementedError

    def fit(self, *_: object) -> FitReport:
        raise NotImplementedError

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        raise NotImplementedError

    def load(self, path: Path, device: str = "cpu") -> None:
        raise NotImplementedError


@contextmanager
def _as_in_a_run() -> Iterator[None]:
    """What a run would refuse fails the check."""
    try:
        yield
    except PluginError as error:
        raise ConformanceError(str(error)) from error


PROTOCOL_CHECKS: tuple[Callable[[TransferProtocol], None], ...] = (
    check_sizes_are_counts,
    check_start_is_known,
    check_refuses_says_why,
)
