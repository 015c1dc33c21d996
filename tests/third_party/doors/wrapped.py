"""What a protocol puts around a network: it saves and loads the network, and trains a part of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Fields, Problem


class Wrapped(OperatorModel):
    """Another model's network with some of its parameters frozen."""

    def __init__(self, inner: OperatorModel) -> None:
        self.inner = inner

    def prepare(self) -> None:
        """Change the network once it has weights; by default leave it."""

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        raise NotImplementedError("a protocol wraps a model that has been initialised")

    @property
    def network(self) -> nn.Module | None:
        return self.inner.network

    @property
    def parameters(self) -> int:
        return self.inner.parameters

    def search_space(self, rates: Sequence[float]) -> Sequence[Mapping[str, float]]:
        return self.inner.search_space(rates)

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        self.prepare()
        return self.inner.fit(train, validation, budget, trial, context)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        return self.inner.predict(problem, inputs)

    def save(self, path: Path) -> None:
        self.inner.save(path)
        save_file(self.added(), path / "added.safetensors")

    def load(self, path: Path, device: str = "cpu") -> None:
        self.inner.load(path, device)
        self.restore(load_file(path / "added.safetensors"))

    def added(self) -> dict[str, Tensor]:
        """Tensors that the wrapper adds to those of the network."""
        return {}

    def restore(self, added: dict[str, Tensor]) -> None:
        """Take back what `added` returned."""
