"""A U-Net (Ronneberger et al., 2015) for periodic fields.

Going down, each level is two 3×3 convolutions and a 2×2 mean; going up, a 2×2 repetition, the skip connection, and two
convolutions. Channels double with every level. Padding is periodic, so the network commutes with shifts by 2^levels
points. Normalisation is by group (Wu and He, 2018), within one example: a prediction does not depend on its batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm.training import planes


class UNetwork(nn.Module):
    """The network; it fits any grid whose side is a multiple of 2^levels.

    Args:
        inputs: fields and constants together; constants enter as constant planes.
        outputs: output channels.
        width: channels of the finest level.
        levels: how often the grid is halved, ≥ 1.
    """

    def __init__(self, inputs: int, outputs: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        entering = [inputs, *widths[:-2]]
        self.down = nn.ModuleList(_convolutions(a, b) for a, b in zip(entering, widths[:-1], strict=True))
        self.bottom = _convolutions(widths[-2], widths[-1])
        self.up = nn.ModuleList(
            _convolutions(below + own, own) for below, own in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.project = nn.Conv2d(width, outputs, 1)

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (batch, F, n, n) and constants (batch, K) to (batch, outputs, n, n)."""
        h = planes(fields, constants)
        skipped = []
        for block in self.down:
            h = block(h)
            skipped.append(h)
            h = functional.avg_pool2d(h, 2)
        h = self.bottom(h)
        for block in self.up:
            h = functional.interpolate(h, scale_factor=2, mode="nearest")
            h = block(torch.cat([h, skipped.pop()], dim=1))
        projected: Tensor = self.project(h)
        return projected


def _convolutions(entering: int, leaving: int) -> nn.Sequential:
    """Two 3×3 convolutions, each followed by normalisation over at most 8 groups of channels and a GELU."""
    groups = math.gcd(8, leaving)
    return nn.Sequential(
        nn.Conv2d(entering, leaving, 3, padding=1, padding_mode="circular"),
        nn.GroupNorm(groups, leaving),
        nn.GELU(),
        nn.Conv2d(leaving, leaving, 3, padding=1, padding_mode="circular"),
        nn.GroupNorm(groups, leaving),
        nn.GELU(),
    )
