"""The U-Net of MONAI (https://monai.io)."""

from __future__ import annotations

from torch import nn

from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel
from pdefm_libraries.library import OnPlanes, check_least, load


class UNet(NetworkModel):
    """MONAI's U-Net with residual units and strided convolutions. It pads with zeros, so it takes any boundary.

    Normalisation is over all channels together, and not MONAI's default by channel. Constants enter as constant planes,
    which normalising single channels would erase.

    Args:
        width: channels of the finest level; they double with every level.
        levels: how often the grid is halved; its side must be a multiple of 2^levels.
        units: residual units of each level.
    """

    def __init__(self, width: int = 8, levels: int = 3, units: int = 2) -> None:
        check_least(width=width, levels=levels, units=units)
        self.width = width
        self.levels = levels
        self.units = units

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that cannot be halved ``levels`` times."""
        n, factor = problem.grid.size, 2**self.levels
        if n % factor:
            return f"{self.levels} levels need a multiple of {factor} grid points a side, got {n}"
        return None

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels of ``problem``."""
        network = load("monai.networks.nets").UNet(
            spatial_dims=2,
            in_channels=len(problem.inputs),
            out_channels=len(problem.outputs),
            channels=[self.width * 2**level for level in range(self.levels + 1)],
            strides=[2] * self.levels,
            num_res_units=self.units,
            act="GELU",
            norm=("GROUP", {"num_groups": 1}),
        )
        return OnPlanes(network)
