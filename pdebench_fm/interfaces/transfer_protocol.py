"""A way of bringing a model to a downstream task: one arm of the comparison."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

from pdebench_fm.interfaces.examples import Examples
from pdebench_fm.interfaces.operator_model import Budget, FitContext, FitReport, OperatorModel, TrialSettings


class TransferProtocol(ABC):
    """One arm, e.g. zero-shot, fine-tune, scratch.

    A registered factory is called with the arguments that a suite gives, e.g. ``{lora: {rank: 8}}``.
    """

    @property
    @abstractmethod
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Whether the model starts pre-trained, or is initialised on the downstream examples."""

    @abstractmethod
    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """Return the numbers of downstream training examples at which this arm is scored.

        Args:
            downstream: those of the suite, rising. Every size must be at most the suite's pool.
        """

    def refuses(self, model: OperatorModel) -> str | None:
        """Return one line if the protocol cannot use the model, else None."""
        return None

    def search_space(self, model: OperatorModel, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        """Return the hyperparameters to try, one mapping a trial; by default those of the model."""
        return model.search_space(rates)

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Return the model that is fitted, saved, loaded and scored in place of ``model``; by default ``model``.

        For what puts something around a model: adapters, a frozen body, in-context prediction. Called with the model
        as it starts (pre-trained or initialised) before a fit, and with a model without weights before a load.
        """
        return model

    def adapt(
        self,
        model: OperatorModel,
        train: Examples,
        validation: Examples,
        budget: Budget,
        trial: TrialSettings,
        context: FitContext,
    ) -> FitReport:
        """Fit the wrapped model to the downstream examples; by default with its own `fit`.

        Not called without training examples.
        """
        return model.fit(train, validation, budget, trial, context)
