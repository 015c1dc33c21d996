"""A way of bringing a model to a downstream task: one arm of the comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from pdebench_fm.interfaces.examples import Examples
from pdebench_fm.interfaces.operator_model import Budget, FitContext, FitReport, OperatorModel, Trial


class TransferProtocol(ABC):
    """One arm, e.g. zero-shot, fine-tune, scratch. A registered factory is called without arguments."""

    @property
    @abstractmethod
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Whether the model starts with its pre-training or is initialised on the downstream examples."""

    @abstractmethod
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """The numbers of downstream training examples at which this arm is scored, given the suite's.

        At least one, rising, from 0 up to what the suite has to draw from.
        """

    def refuses(self, model: OperatorModel) -> str | None:
        """Return None where the protocol can use the model, otherwise one line saying why not."""
        return None

    def adapt(
        self,
        model: OperatorModel,
        train: Examples,
        validation: Examples,
        budget: Budget,
        trial: Trial,
        context: FitContext,
    ) -> FitReport:
        """Fit the model to the downstream examples; all of it by its own means, unless a protocol says otherwise.

        Never called where ``train`` would be empty.
        """
        return model.fit(train, validation, budget, trial, context)
