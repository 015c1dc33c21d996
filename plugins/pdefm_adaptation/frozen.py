"""Head-only, and the frozen body with trained embedding and recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdefm_adaptation.adapted import Adapted, NetworkAdaptation, network_of, numbers, part_of, training_only, weights_of


class HeadOnly(NetworkAdaptation):
    """Train only the layers that make the outputs."""

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Freeze all but the head."""
        return PartlyFrozen(model, ["head"])


class FrozenBody(NetworkAdaptation):
    """Train only the layers that read the inputs and those that make the outputs."""

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Freeze all but embedding and head."""
        return PartlyFrozen(model, ["embedding", "head"])


class PartlyFrozen(Adapted):
    """A network of which some parts are trained.

    Args:
        inner: the model.
        parts: names of the parts, see `OperatorModel.parts`.
    """

    def __init__(self, inner: OperatorModel, parts: Sequence[str]) -> None:
        super().__init__(inner)
        self._parts = parts

    def notes(self) -> Mapping[str, str]:
        """Say which weights are trained."""
        layers = self._layers()
        trained = f"{numbers(weights_of(self.inner, layers)):,} of {self.parameters:,}: {', '.join(layers)}"
        return {**self.inner.notes(), "trained weights": trained}

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Fit these parts."""
        with training_only(network_of(self.inner), weights_of(self.inner, self._layers())):
            return self.inner.fit(train, validation, budget, trial, context)

    def _layers(self) -> list[str]:
        return [layer for part in self._parts for layer in part_of(self.inner, part)]
