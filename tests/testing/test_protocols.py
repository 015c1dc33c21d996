"""The checks of protocols can fail: for each there is a protocol that breaks that claim and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from pdebench_fm.interfaces import (
    Budget,
    Examples,
    FitContext,
    FitReport,
    OperatorModel,
    TransferProtocol,
    TrialSettings,
)
from pdebench_fm.testing import PROTOCOL_CHECKS
from pdebench_fm.testing.claims import claims
from tests.testing.outcomes import outcomes


class Head(TransferProtocol):
    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream

    def adapt(
        self,
        model: OperatorModel,
        train: Examples,
        validation: Examples,
        budget: Budget,
        trial: TrialSettings,
        context: FitContext,
    ) -> FitReport:
        return FitReport()


class Backwards(Head):
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream[::-1]


class Nowhere(Head):
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return ()


class InHalves(Head):
    def sizes(self, downstream: Sequence[int]) -> Any:
        return [size / 2 for size in downstream]


class Silent(Head):
    def refuses(self, model: OperatorModel) -> str | None:
        return None if model.warm_starts else ""


class Speechless(Head):
    def refuses(self, model: OperatorModel) -> str | None:
        return None if model.from_scratch else ""


class ByNote(Head):
    def refuses(self, model: OperatorModel) -> str | None:
        return model.notes().get("cannot be tuned")


class Careless(Head):
    def refuses(self, model: OperatorModel) -> str | None:
        return None if model.warm_starts else f"{model.no_such_thing}"  # type: ignore[attr-defined]


class FromThinAir(Head):
    @property
    def starts_from(self) -> Any:
        return "thin air"


@pytest.mark.parametrize(
    ("protocol", "broken"),
    [
        (Head, set()),
        (Backwards, {"sizes_are_counts"}),
        (Nowhere, {"sizes_are_counts"}),
        (InHalves, {"sizes_are_counts"}),
        (Silent, {"refuses_says_why"}),
        (Speechless, {"refuses_says_why"}),
        (ByNote, set()),
        (Careless, {"refuses_says_why"}),
        (FromThinAir, {"start_is_known"}),
    ],
)
def test_a_protocol_fails_the_claim_it_breaks(protocol: type[TransferProtocol], broken: set[str]) -> None:
    assert outcomes(claims(PROTOCOL_CHECKS, protocol())).keys() == broken
