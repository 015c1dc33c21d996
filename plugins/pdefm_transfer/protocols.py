"""Zero-shot, fine-tuning and training from scratch (paper, sections 1 and 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pdebench_fm.interfaces import OperatorModel, TransferProtocol


class ZeroShot(TransferProtocol):
    """Score the pre-trained model on the downstream test set without any downstream example."""

    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Starts from the pre-trained model."""
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """Scored at zero examples only."""
        return (0,)


class FineTune(TransferProtocol):
    """Continue training all weights on N downstream examples; the normalisation of pre-training is kept."""

    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Starts from the pre-trained model."""
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """Scored at every size of the suite."""
        return downstream

    def refuses(self, model: OperatorModel) -> str | None:
        """Refuse a model that cannot be fitted further."""
        return None if model.warm_starts else "the model cannot be fitted further (it declares warm_starts = False)"


class Scratch(TransferProtocol):
    """Train only on N downstream examples. At N = 0 it is the untrained network (paper, Fig. 3)."""

    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Starts from an untrained model."""
        return "initialised"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """Scored untrained and at every size of the suite."""
        return (0, *downstream)

    def refuses(self, model: OperatorModel) -> str | None:
        """Refuse a model that only exists trained."""
        return None if model.from_scratch else "the model only exists trained (it declares from_scratch = False)"
