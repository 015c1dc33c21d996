"""A U-Net (Ronneberger et al., 2015) for periodic fields.

Going down, each level is two 3×3 convolutions and a 2×2 mean; going up, a 2×2 repetition, the skip connection, and two
convolutions. Channels double with every level. Padding is periodic, so the network commutes with shifts by 2^levels
points. Normalisation is by groups of channels (Wu and He, 2018), within one example: a prediction does not depend on
its batch. A group has several channels: constants enter as constant planes, and normalising single channels would erase
them.
"""

from __future__ import annotations

from itertools import product
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
            h = block(skipped.pop(), h)
        projected: Tensor = self.project(h)
        return projected


class PeriodicConvolution(nn.Conv2d):
    """A 3×3 convolution of periodic fields: `torch.nn.Conv2d` with circular padding, to rounding and faster.

    Args:
        entering: channels of all that is convolved.
        leaving: channels of the result.
    """

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving, 3)

    def forward(self, x: Tensor, coarse: Tensor | None = None) -> Tensor:
        """Convolve x, (batch, channels, n, n), as if joined behind a coarse field that is repeated 2×2.

        Args:
            x: the fields, or the last of them.
            coarse: the first of them on half the points a side, (batch, channels, n/2, n/2), if any.
        """
        if coarse is None:
            return functional.conv2d(_padded(x), self.weight, self.bias)
        of_coarse, of_x = torch.split(self.weight, [coarse.shape[1], x.shape[1]], dim=1)
        return _convolved_when_repeated(coarse, of_coarse) + functional.conv2d(_padded(x), of_x, self.bias)


def _convolved_when_repeated(coarse: Tensor, weight: Tensor) -> Tensor:
    """Repeat every point of (batch, channels, n, n) 2×2, then convolve; the result is (batch, leaving, 2n, 2n).

    The 3×3 points around a fine one belong to only 2×2 coarse ones. So each of the four fine points of a coarse one is
    a 2×2 convolution of the coarse field: 16 products in place of 36 (a sub-pixel convolution, Shi et al., 2016).
    """
    kernels = _folded(_folded(weight, -1), -2)  # [row of the fine point][column][leaving][entering][2][2]
    corners = functional.conv2d(_padded(coarse), kernels.flatten(0, 2))
    fine: Tensor = _Interleaving.apply(corners)  # type: ignore[no-untyped-call]
    return fine


def _folded(weight: Tensor, axis: int) -> Tensor:
    """From three weights along an axis to two, stacked for both points of a fine pair.

    The first point sees the coarse one before its own and its own, the second its own and the one after it.
    """
    before, at, after = weight.unbind(axis)
    return torch.stack([torch.stack([before, at + after], axis), torch.stack([before + at, after], axis)])


class _Interleaving(torch.autograd.Function):
    """From four fields, (batch, 4·channels, n+1, n+1), to one of twice the points, (batch, channels, 2n, 2n).

    Fine point (2i + a, 2j + b) is point (i + a, j + b) of field (a, b), and the fields' other points are dropped. Four
    strided copies each way; autograd's own would fill a plane with zeros for each slice.
    """

    @staticmethod
    def forward(ctx: Any, corners: Tensor) -> Tensor:
        batch, channels, points, _ = corners.shape
        n = points - 1
        corners = corners.reshape(batch, 2, 2, channels // 4, points, points)
        fine = corners.new_empty(batch, channels // 4, n, 2, n, 2)
        for a, b in product((0, 1), repeat=2):
            fine[:, :, :, a, :, b] = corners[:, a, b, :, a : a + n, b : b + n]
        return fine.view(batch, channels // 4, 2 * n, 2 * n)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        batch, channels, points, _ = gradient.shape
        n = points // 2
        gradient = gradient.reshape(batch, channels, n, 2, n, 2)
        to_corners = gradient.new_zeros(batch, 2, 2, channels, n + 1, n + 1)
        for a, b in product((0, 1), repeat=2):
            to_corners[:, a, b, :, a : a + n, b : b + n] = gradient[:, :, :, a, :, b]
        return to_corners.view(batch, 4 * channels, n + 1, n + 1)


def _padded(x: Tensor) -> Tensor:
    padded: Tensor = _Padding.apply(x)  # type: ignore[no-untyped-call]
    return padded


class _Padding(torch.autograd.Function):
    """Pads one row and column on every side; autograd's own backward pass would add a plane for each."""

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
    """Two 3×3 convolutions, each followed by normalisation by groups of channels and a GELU.

    Going up, the first takes two arguments, see `PeriodicConvolution.forward`.
    """

    def __init__(self, entering: int, leaving: int) -> None:
        groups = _groups(leaving)
        super().__init__(
            PeriodicConvolution(entering, leaving),
            nn.GroupNorm(groups, leaving),
            nn.GELU(),
            PeriodicConvolution(leaving, leaving),
            nn.GroupNorm(groups, leaving),
            nn.GELU(),
        )

    def forward(self, x: Tensor, coarse: Tensor | None = None) -> Tensor:
        first, *rest = self
        h: Tensor = first(x, coarse)
        for layer in rest:
            h = layer(h)
        return h


def _groups(channels: int) -> int:
    """Return the largest number of equal groups of at least four channels, or 1."""
    return max((count for count in range(1, channels // 4 + 1) if channels % count == 0), default=1)
