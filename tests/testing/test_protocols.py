"""The checks of protocols can fail: for each there is a protocol that breaks that claim and no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest
import torch
from pdefm_baselines.mode_regression import ModeRegression

from pdebench_fm.interfaces import FitReport, OperatorModel, TransferProtocol
from pdebench_fm.testing import PROTOCOL_CHECKS
from pdebench_fm.testing.claims import claims
from pdebench_fm.testing.protocols import ProtocolSubject
from tests.testing.outcomes import outcomes


class Head(TransferProtocol):
    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return downstream


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


class WithoutExamples(Head):
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return (0,)


class SearchesText(Head):
    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Any:
        return [{"learning_rate": "fast"}]


class WrapsNothing(Head):
    def wrap(self, model: OperatorModel) -> Any:
        return model.network


class WrapsNaN(Head):
    """Breaks the model before any fit, as scored without examples."""

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        return (0, *downstream)

    def wrap(self, model: OperatorModel) -> OperatorModel:
        if getattr(model, "_built", None) is not None:
            assert model.network is not None
            for weight in model.network.parameters():
                weight.data *= float("nan")
        return model


class AdaptsNothing(Head):
    def adapt(self, *arguments: Any) -> FitReport:
        return FitReport()


class ForgetsToReport(Head):
    def adapt(self, *arguments: Any) -> Any:
        super().adapt(*arguments)


class Raises(Head):
    def adapt(self, *arguments: Any) -> FitReport:
        raise KeyError("optimiser")


class AtRandom(Head):
    def adapt(self, model: OperatorModel, *arguments: Any) -> FitReport:
        report = super().adapt(model, *arguments)
        assert model.network is not None
        for weight in model.network.parameters():
            weight.data += 0.1 * torch.rand_like(weight)
        return report


class LosesWhatItAdds(Head):
    """Doubles the predictions of an adapted model, and forgets that on disk."""

    def adapt(self, model: OperatorModel, *arguments: Any) -> FitReport:
        report = super().adapt(model, *arguments)
        assert model.network is not None
        model.network.register_forward_hook(lambda module, given, output: 2 * output)
        return report


class TakesOthers(Head):
    def refuses(self, model: OperatorModel) -> str | None:
        return None if isinstance(model, ModeRegression) else "it needs a regression"


CASES: list[tuple[type[TransferProtocol], set[str]]] = [
    (Head, set()),
    (WithoutExamples, set()),
    (Backwards, {"sizes_are_counts"}),
    (Nowhere, {"sizes_are_counts"}),
    (InHalves, {"sizes_are_counts"}),
    (Silent, {"refuses_says_why"}),
    (Speechless, {"refuses_says_why"}),
    (ByNote, set()),
    (Careless, {"refuses_says_why"}),
    (FromThinAir, {"start_is_known"}),
    (SearchesText, {"search_space_is_plain_numbers"}),
    (WrapsNothing, {"wraps_a_model"}),
    (WrapsNaN, {"wraps_a_model", "adapts_a_model"}),
    (AdaptsNothing, {"adapts_a_model"}),
    (ForgetsToReport, {"adapts_a_model"}),
    (Raises, {"adapts_a_model"}),
    (AtRandom, {"adapting_is_reproducible"}),
    (LosesWhatItAdds, {"adapted_models_are_saved_and_loaded"}),
]


@pytest.mark.parametrize(("protocol", "broken"), CASES)
def test_a_protocol_fails_the_claim_it_breaks(protocol: type[TransferProtocol], broken: set[str]) -> None:
    said = outcomes(claims(PROTOCOL_CHECKS, ProtocolSubject(protocol())))
    assert {claim for claim, text in said.items() if not text.startswith("skipped")} == broken


def test_a_protocol_that_refuses_the_small_network_is_checked_on_another_model() -> None:
    said = outcomes(claims(PROTOCOL_CHECKS, ProtocolSubject(TakesOthers())))
    assert said["adapts_a_model"] == (
        "skipped: it refuses the model tried: it needs a regression; give --model NAME, one that it takes"
    )
    other = ProtocolSubject(TakesOthers(), lambda: ModeRegression(modes=3))
    assert outcomes(claims(PROTOCOL_CHECKS, other)) == {}


def test_every_claim_on_protocols_is_seen_to_fail() -> None:
    broken = {claim for _, failing in CASES for claim in failing}
    assert broken == {check.__name__.removeprefix("check_") for check in PROTOCOL_CHECKS}
