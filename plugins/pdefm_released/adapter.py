"""Adapters: what brings the problems of the benchmark to the inputs of a released network.

All families share the order of channels (fields, then constants as planes, both scaled), resampling, and the fitted
normalisation. A family says which size it needs, how it is called, and which layers are replaced.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm.problem import Grid, Problem
from pdebench_fm.training import planes


@dataclass(frozen=True)
class Facts:
    """What a record says of a family.

    Args:
        code: where the published code is, and its licence.
        weights: where the published weights are, and their licence.
        data: what the pre-training saw.
    """

    code: str
    weights: str
    data: str


class Adapter(nn.Module):
    """A released network, called as the benchmark calls networks.

    Args:
        network: of the family.
        problem: what it is adapted to.
        resampling: ``family``, ``spectral`` or ``bilinear``.

    Attributes:
        said: what was assumed, for the record.
    """

    family: ClassVar[str]
    facts: ClassVar[Facts]
    own_resampling: ClassVar[str] = "spectral"
    embedding: ClassVar[Sequence[str]]
    head: ClassVar[Sequence[str]]

    def __init__(self, network: nn.Module, problem: Problem, resampling: str = "family") -> None:
        super().__init__()
        self.network = network
        self.inputs = (*problem.input_fields, *problem.constants)
        self.outputs = problem.output_names
        self.field_count = len(problem.input_fields)
        self.periodic = problem.grid.periodic
        self.resampling = self.own_resampling if resampling == "family" else resampling
        if not self.periodic and self.resampling == "spectral":
            self.resampling = "bilinear"
        self.said: dict[str, str] = {}
        self.replaced: list[str] = []
        self.fit_channels()
        for name, count in (("input", len(self.inputs)), ("output", len(self.outputs))):
            self.register_buffer(f"{name}_mean", torch.zeros(count))
            self.register_buffer(f"{name}_std", torch.ones(count))

    @classmethod
    @abstractmethod
    def open(cls, checkpoint: Path, **arguments: Any) -> nn.Module:
        """Load the network."""

    @classmethod
    def refuses(cls, network: nn.Module, problem: Problem) -> str | None:
        """Return why the network cannot take a problem, None if it can."""
        return None

    @abstractmethod
    def size(self, n: int) -> int:
        """Return the points a side that the network gets for a grid of n."""

    @abstractmethod
    def fit_channels(self) -> None:
        """Replace layers if channel counts ask for it; note what was done in ``said`` and ``replaced``."""

    @abstractmethod
    def call(self, x: Tensor) -> Tensor:
        """Call the network with normalised fields (B, inputs, m, m); return at least ``outputs`` channels."""

    def parts(self) -> dict[str, list[str]]:
        """Name the layers that read inputs and those that make outputs."""
        return {
            "embedding": [f"network.{name}" for name in self.embedding],
            "head": [f"network.{name}" for name in self.head],
        }

    def fit_normalisation(self, fields: Tensor, constants: Tensor, targets: Tensor) -> None:
        """Fit mean and deviation of each channel to examples, (N, …); a channel that is constant keeps its size."""
        for name, parts in (("input", [*fields.unbind(1), *constants.unbind(1)]), ("output", targets.unbind(1))):
            for i, values in enumerate(parts):
                std, mean = torch.std_mean(values.double(), correction=0)
                getattr(self, f"{name}_mean")[i] = mean
                getattr(self, f"{name}_std")[i] = std if std > 1e-6 * mean.abs() else mean.abs() if mean else 1.0

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (B, F, n, n) and constants (B, K) to outputs (B, O, n, n)."""
        n = fields.shape[-1]
        x = planes(self.resampled(fields, self.size(n)), constants)
        x = (x - self.input_mean[:, None, None]) / self.input_std[:, None, None]
        y = self.resampled(self.call(x)[:, : len(self.outputs)], n)
        return y * self.output_std[:, None, None] + self.output_mean[:, None, None]

    def resampled(self, fields: Tensor, size: int) -> Tensor:
        """Resample (B, channels, n, n) to another grid."""
        if fields.shape[-1] == size:
            return fields
        return spectral(fields, size) if self.resampling == "spectral" else bilinear(fields, size)

    def notes(self, grid: Grid) -> dict[str, str]:
        """Say what was assumed."""
        size = self.size(grid.size)
        resampling = f"{self.resampling}, {grid.size}² to {size}² and back" if size != grid.size else "none"
        return {
            "input channels": ", ".join(self.inputs) + "; constants are planes",
            "resampling": resampling,
            "normalisation": "mean and deviation of each channel, fitted to the first examples",
            "replaced layers": ", ".join(self.replaced) or "none",
            **self.said,
            "code": self.facts.code,
            "weights": self.facts.weights,
            "pre-training data": self.facts.data,
        }


def spectral(fields: Tensor, size: int) -> Tensor:
    """Resample periodic fields (…, n, n) by their Fourier series; what the coarser grid cannot hold is dropped."""
    n = fields.shape[-1]
    kept = (min(n, size) - 1) // 2  # the Nyquist frequency of the coarser grid is left out
    spectrum = torch.fft.rfft2(fields, norm="forward")
    moved = spectrum.new_zeros(*fields.shape[:-2], size, size // 2 + 1)
    moved[..., : kept + 1, : kept + 1] = spectrum[..., : kept + 1, : kept + 1]
    if kept:
        moved[..., -kept:, : kept + 1] = spectrum[..., -kept:, : kept + 1]
    return torch.fft.irfft2(moved, s=(size, size), norm="forward")


def bilinear(fields: Tensor, size: int) -> Tensor:
    """Resample (B, channels, n, n) linearly; cells are aligned, as DPOT's authors do."""
    return functional.interpolate(fields, (size, size), mode="bilinear", align_corners=False)


def filled(x: Tensor, channels: int, value: float) -> Tensor:
    """Fill the channels that a network has beyond those of x, (B, C, m, m)."""
    return functional.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1]), value=value)


def multiple(n: int, factor: int, least: int = 1) -> int:
    """Return the smallest multiple of ``factor`` that is at least n and ``least`` times it."""
    return factor * max(math.ceil(n / factor), least)
