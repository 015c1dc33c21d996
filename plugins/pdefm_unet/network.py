"""A U-Net (Ronneberger et al., 2015) for periodic fields.

Going down, each level is two 3×3 convolutions and a 2×2 mean; going up, a 2×2 repetition, the skip connection, and two
convolutions. Channels double with every level. Padding is periodic, so the network commutes with shifts by 2^levels
points. Normalisation is by group (Wu and He, 2018), within one example: a prediction does not depend on its batch.
"""

from __future__ import annotations

import math
from typing import Any

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
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip(entering, widths[:-1], strict=True))
        self.bottom = _Block(widths[-2], widths[-1])
        self.up = nn.ModuleList(
            _Block(below + own, own) for below, own in zip(widths[:0:-1], widths[-2::-1], strict=True)
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
            h = block(h, skipped.pop())
        projected: Tensor = self.project(h)
        return projected


class PeriodicConvolution(nn.Conv2d):
    """A 3×3 convolution of periodic fields: `torch.nn.Conv2d` with circular padding, to rounding and faster.

    Args:
        entering: channels of all arguments together.
        leaving: channels of the result.
    """

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving, 3)

    def forward(self, *parts: Tensor) -> Tensor:
        """Convolve fields given in one or several parts, (batch, channels, n, n) each, as if joined along channels.

        A sum over the parts does without the joined planes, and CPU kernels want a round number of channels: the
        default width has 16 and 8, joined 24.
        """
        weights = self.weight.split([part.shape[1] for part in parts], dim=1)
        first, *rest = [_Padding.apply(part) for part in parts]  # type: ignore[no-untyped-call]
        total = functional.conv2d(first, weights[0], self.bias)
        for part, weight in zip(rest, weights[1:], strict=True):
            total = total + functional.conv2d(part, weight)
        return total


class _Padding(torch.autograd.Function):
    """One column and row on every side. Autograd's own zero-fills and adds a plane for each of the four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        *channels, rows, columns = x.shape
        padded = x.new_empty(*channels, rows + 2, columns + 2)
        inner = padded[..., 1:-1, :]
        inner[..., 1:-1] = x
        inner[..., 0], inner[..., -1] = x[..., -1], x[..., 0]
        padded[..., 0, :], padded[..., -1, :] = inner[..., -1, :], inner[..., 0, :]
        return padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        inner = gradient[..., 1:-1, :].clone()
        inner[..., -1, :] += gradient[..., 0, :]
        inner[..., 0, :] += gradient[..., -1, :]
        to_x = inner[..., 1:-1].clone(memory_format=torch.contiguous_format)
        to_x[..., -1] += inner[..., 0]
        to_x[..., 0] += inner[..., -1]
        return to_x


class _Block(nn.Sequential):
    """Two 3×3 convolutions, each followed by normalisation over at most 8 groups of channels and a GELU.

    The first takes its argument in one or several parts, see `PeriodicConvolution.forward`.
    """

    def __init__(self, entering: int, leaving: int) -> None:
        groups = math.gcd(8, leaving)
        super().__init__(
            PeriodicConvolution(entering, leaving),
            nn.GroupNorm(groups, leaving),
            nn.GELU(),
            PeriodicConvolution(leaving, leaving),
            nn.GroupNorm(groups, leaving),
            nn.GELU(),
        )

    def forward(self, *parts: Tensor) -> Tensor:
        first, *rest = self
        h: Tensor = first(*parts)
        for layer in rest:
            h = layer(h)
        return h
