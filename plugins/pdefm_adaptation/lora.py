"""Low-rank adaptation (LoRA, arXiv 2106.09685) of every kind of weight: dense, convolutional, spectral, complex.

The update of a weight is a product of two thin matrices, one of which begins at zero. It is a parametrization of the
weight itself, and not a module around a layer. So it also reaches layers whose weights the network reads directly, and
weights that belong to no standard layer. After the fit it is added to the weight, so files and speed stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pdebench_fm.errors import SettingError
from pdebench_fm.interfaces import Budget, Examples, FitContext, FitReport, OperatorModel, TrialSettings
from pdefm_adaptation.adapted import Adapted, NetworkAdaptation, network_of, numbers, training_only

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class LoRA(NetworkAdaptation):
    """Train low-rank updates of all weights with two axes or more; biases and the like stay as they are.

    Args:
        rank: of the updates. A weight that has fewer numbers than its update would is trained itself.

    Raises:
        SettingError: the rank is below 1.
    """

    def __init__(self, rank: int = 8) -> None:
        if rank < 1:
            raise SettingError("rank", f"must be at least 1, got {rank}")
        self.rank = rank

    def wrap(self, model: OperatorModel) -> OperatorModel:
        """Add the updates."""
        return LowRankAdapted(model, self.rank)


class LowRankAdapted(Adapted):
    """A network that is trained through low-rank updates.

    Args:
        inner: the model.
        rank: of the updates.
    """

    def __init__(self, inner: OperatorModel, rank: int) -> None:
        super().__init__(inner)
        self.rank = rank

    def notes(self) -> Mapping[str, str]:
        """Say how many numbers are trained."""
        trained = sum(
            min(numbers([weight]), self.rank * sum(rows_and_columns(weight, owners)) * (1 + weight.is_complex()))
            for weight, owners in _matrices(network_of(self.inner)).items()
        )
        return {**self.inner.notes(), "trained weights": f"{trained:,} beside {self.parameters:,}, rank {self.rank}"}

    def fit(
        self, train: Examples, validation: Examples, budget: Budget, trial: TrialSettings, context: FitContext
    ) -> FitReport:
        """Fit the updates and add them to the weights."""
        network = network_of(self.inner)
        with low_rank_updates(network, self.rank, trial.seed) as trained, training_only(network, trained):
            return self.inner.fit(train, validation, budget, trial, context)


class LowRank(nn.Module):
    """weight ↦ weight + up · down, with the axes of the weight folded into two.

    ``down`` is as large as makes a step of Adam change the weight as much as a step on the weight itself, so learning
    rates keep their meaning.

    Args:
        weight: what is updated.
        rank: of the update.
        rows: of the folded weight.
        columns: of the folded weight.
    """

    def __init__(self, weight: Tensor, rank: int, rows: int, columns: int) -> None:
        super().__init__()
        down = torch.randn(rank, columns, dtype=weight.dtype) / math.sqrt(rank)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the updated weight."""
        return weight + (self.up @ self.down).view(weight.shape)


Owners = list[tuple[nn.Module, str]]
"""The modules that have a weight, and under which name."""


@contextmanager
def low_rank_updates(network: nn.Module, rank: int, seed: int) -> Iterator[list[nn.Parameter]]:
    """Update weights by low-rank products within the block, and add the products to the weights at its end.

    Args:
        network: changed in place.
        rank: of the updates.
        seed: fixes where they begin.

    Yields:
        what is to be trained.
    """
    trained: list[nn.Parameter] = []
    updates: list[tuple[nn.Parameter, Owners, LowRank]] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for weight, owners in _matrices(network).items():
            rows, columns = rows_and_columns(weight, owners)
            if rank * (rows + columns) >= rows * columns:
                trained.append(weight)
                continue
            update = LowRank(weight, rank, rows, columns)
            trained += update.parameters()
            updates.append((weight, owners, update))
    for _, owners, update in updates:
        for module, name in owners:
            parametrize.register_parametrization(module, name, update)
    try:
        yield trained
    finally:
        for weight, owners, update in updates:
            with torch.no_grad():
                updated = update(weight)
            for module, name in owners:
                parametrize.remove_parametrizations(module, name, leave_parametrized=False)
            weight.data.copy_(updated)  # once, however many modules share the weight


def rows_and_columns(weight: Tensor, owners: Owners) -> tuple[int, int]:
    """Return the shape of a weight as a matrix.

    A convolution has one row for each channel of its first axis. Any other weight is folded where its update has the
    fewest numbers.
    """
    splits = range(1, 2 if isinstance(owners[0][0], _CONVOLUTIONS) else weight.ndim)
    shapes = [(math.prod(weight.shape[:split]), math.prod(weight.shape[split:])) for split in splits]
    return min(shapes, key=sum)


def _matrices(network: nn.Module) -> dict[nn.Parameter, Owners]:
    """Return the trainable weights of two axes or more, without those that are parametrized already."""
    found: dict[nn.Parameter, Owners] = {}
    for module in network.modules():
        if not isinstance(module, parametrize.ParametrizationList):
            for name, weight in module.named_parameters(recurse=False):
                if weight.ndim > 1 and weight.requires_grad:
                    found.setdefault(weight, []).append((module, name))
    return found
