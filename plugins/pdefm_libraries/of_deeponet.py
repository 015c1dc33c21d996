"""A DeepONet (Lu et al., 2021): a branch for the inputs, a trunk for the points, and their product."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel, planes
from pdefm_libraries.library import check_least


class DeepONet(NetworkModel):
    """A DeepONet whose branch is a small convolutional network, and whose trunk sees each point as waves.

    Args:
        width: of the hidden layers of branch and trunk.
        terms: products that are summed for each output.
        waves: highest wavenumber that the trunk sees, along each axis.
        sensors: points along each side at which the branch sees the fields; those of a grid are a multiple.
    """

    def __init__(self, width: int = 64, terms: int = 64, waves: int = 4, sensors: int = 16) -> None:
        check_least(width=width, terms=terms, waves=waves)
        check_least(8, sensors=sensors)
        self.width = width
        self.terms = terms
        self.waves = waves
        self.sensors = sensors

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that is not periodic, or does not have the sensors among its points."""
        if not problem.grid.periodic:
            return "the trunk sees points as periodic waves and needs a periodic grid"
        if problem.grid.size % self.sensors:
            return f"{self.sensors} sensors need a multiple of {self.sensors} points a side, got {problem.grid.size}"
        return None

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels of ``problem``."""
        return BranchAndTrunk(
            len(problem.inputs), len(problem.outputs), self.width, self.terms, self.waves, self.sensors
        )


class BranchAndTrunk(nn.Module):
    """The network; see `DeepONet` for its arguments."""

    def __init__(self, inputs: int, outputs: int, width: int, terms: int, waves: int, sensors: int) -> None:
        super().__init__()
        self.outputs, self.terms, self.waves, self.sensors = outputs, terms, waves, sensors
        side = (sensors + 3) // 4
        self.read = nn.Conv2d(inputs, width // 2 or 1, 3, stride=2, padding=1, padding_mode="circular")
        self.refine = nn.Conv2d(width // 2 or 1, width, 3, stride=2, padding=1, padding_mode="circular")
        self.branch = nn.Sequential(nn.Linear(width * side**2, width), nn.GELU(), nn.Linear(width, outputs * terms))
        self.trunk = nn.Sequential(
            nn.Linear(4 * waves, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, terms)
        )
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (batch, F, n, n) and constants (batch, K) to (batch, outputs, n, n)."""
        batch, n = len(fields), fields.shape[-1]
        apart = n // self.sensors
        seen = planes(fields[..., ::apart, ::apart], constants)
        seen = functional.gelu(self.refine(functional.gelu(self.read(seen))))
        weights = self.branch(seen.flatten(1)).view(batch, self.outputs, self.terms)
        basis = self.trunk(self._waves(n, fields))
        return torch.einsum("bot,yxt->boyx", weights, basis) + self.bias[:, None, None]

    def _waves(self, n: int, like: Tensor) -> Tensor:
        """Return what the trunk sees of each point, (n, n, 4 · waves)."""
        numbers = torch.arange(1, self.waves + 1, device=like.device, dtype=like.dtype)
        angle = 2 * math.pi * torch.arange(n, device=like.device, dtype=like.dtype)[:, None] * numbers / n
        along = torch.cat([angle.sin(), angle.cos()], dim=1)
        return torch.cat([along[:, None].expand(n, n, -1), along[None].expand(n, n, -1)], dim=2)
