"""The U-Net as an operator model."""

from __future__ import annotations

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel
from pdefm_unet.network import UNetwork


class UNet(NetworkModel):
    """U-Net with periodic padding; the network is `pdefm_unet.network.UNetwork`.

    By default it has 122,889 parameters on SYS-1; with width 16 it has 488,849.

    Args:
        width: channels of the finest level, at least 2; they double with every level.
        levels: how often the grid is halved, at least once; its side must be a multiple of 2^levels.

    Raises:
        SettingError: one of them is smaller.
    """

    def __init__(self, width: int = 8, levels: int = 3) -> None:
        for name, value, least in (("width", width, 2), ("levels", levels, 1)):
            if value < least:
                raise SettingError(name, f"must be at least {least}, got {value}")
        self.width = width
        self.levels = levels

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that is not periodic, or cannot be halved ``levels`` times."""
        if not problem.grid.periodic:
            return "the U-Net pads periodically and needs a periodic grid"
        n, factor = problem.grid.size, 2**self.levels
        if n % factor:
            return f"{self.levels} levels need a multiple of {factor} grid points a side, got {n}"
        return None

    def build(self, problem: Problem) -> UNetwork:
        """Return a new network for the channels of ``problem``."""
        return UNetwork(len(problem.inputs), len(problem.outputs), self.width, self.levels)
