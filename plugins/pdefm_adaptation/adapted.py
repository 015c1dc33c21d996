"""What the protocols share: they start pre-trained, and put something around a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

from torch import nn

from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces import (
    Budget,
    Examples,
    FitContext,
    FitReport,
    OperatorModel,
    TransferProtocol,
    TrialSettings,
)
from pdebench_fm.problem import Fields, Problem


class Adaptation(TransferProtocol):
    """A protocol that starts pre-trained and is scored at every size of the suite."""

    @property
    def starts_from(self) -> Literal["pretrained", "initialised"]:
        """Starts from the pre-trained model."""
        return "pretrained"

    def sizes(self, downstream: Sequence[int]) -> Sequence[int]:
        """Scored at every size of the suite."""
        return downstream


class NetworkAdaptation(Adaptation):
    """One that changes a part of a network."""

    def refuses(self, model: OperatorModel) -> str | None:
        """Refuse a model without a network, and one whose fit begins anew."""
        if not model.has_network:
            return "the protocol trains parts of a torch network, and the model has none"
        return None if model.warm_starts else "the model cannot be fitted further (it declares warm_starts = False)"


class Adapted(OperatorModel):
    """A model with something around it; by default everything is the inner model's.

    Args:
        inner: the model, as the protocol finds it.
    """

    has_network: ClassVar[bool] = True

    def __init__(self, inner: OperatorModel) -> None:
        self.inner = inner

    @property
    def network(self) -> nn.Module | None:
        """The inner model's."""
        return self.inner.network

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Those of the inner model."""
        return self.inner.parts()

    @property
    def parameters(self) -> int:
        """All of the inner model's; notes say how many are trained."""
        return self.inner.parameters

    def notes(self) -> Mapping[str, str]:
        """Those of the inner model."""
        return self.inner.notes()

    def initialise(self, problem: Problem, train: Examples, seed: int) -> None:
        """Initialise the inner model."""
        self.inner.initialise(problem, train, seed)

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Fit the inner model."""
        return self.inner.fit(train, validation, budget, trial, context)

    def predict(self, problem: Problem, inputs: Fields) -> Fields:
        """Predict with the inner model."""
        return self.inner.predict(problem, inputs)

    def save(self, path: Path) -> None:
        """Save the inner model."""
        self.inner.save(path)

    def load(self, path: Path, device: str = "cpu") -> None:
        """Load the inner model."""
        self.inner.load(path, device)


def network_of(model: OperatorModel) -> nn.Module:
    """Return the network of a model that has one."""
    network = model.network
    assert network is not None  # the protocol has refused other models
    return network


def part_of(model: OperatorModel, part: str) -> Sequence[str]:
    """Return the names of the layers of a part; the first or the last that has weights if the model does not say.

    Args:
        model: has a network.
        part: ``embedding`` or ``head``.
    """
    named = model.parts().get(part)
    if named:
        return named
    layers = [name.rpartition(".")[0] or name for name, _ in network_of(model).named_parameters()]
    return layers[:1] if part == "embedding" else layers[-1:]


def weights_of(model: OperatorModel, layers: Iterable[str]) -> list[nn.Parameter]:
    """Return the parameters of some layers of a model's network.

    Raises:
        UsageError: the network has no such layer.
    """
    named, found = dict(network_of(model).named_parameters()), {}
    for layer in layers:
        own = {name: weight for name, weight in named.items() if f"{name}.".startswith(f"{layer}.")}
        if not own:
            raise UsageError(f"parts() of the model names {layer!r}; its network has no such layer with weights")
        found |= own
    return list(found.values())


def numbers(weights: Iterable[nn.Parameter]) -> int:
    """Count real numbers; a complex weight has two."""
    return sum(weight.numel() * (2 if weight.is_complex() else 1) for weight in weights)


@contextmanager
def training_only(network: nn.Module, weights: Iterable[nn.Parameter]) -> Iterator[None]:
    """Freeze all other weights within the block, and the running statistics of modules that train none."""
    trained = {id(weight) for weight in weights}
    before = {name: weight.requires_grad for name, weight in network.named_parameters()}
    for weight in network.parameters():
        weight.requires_grad_(id(weight) in trained)
    frozen = [
        module
        for module in network.modules()
        if any(True for _ in module.parameters()) and not any(own.requires_grad for own in module.parameters())
    ]
    # A training step puts the whole network into training mode; what is frozen leaves it before it computes.
    hooks = [module.register_forward_pre_hook(lambda module, _: module.eval() and None) for module in frozen]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for name, weight in network.named_parameters():
            weight.requires_grad_(before[name])
