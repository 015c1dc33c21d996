"""The FNO as an operator model."""

from __future__ import annotations

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel
from pdefm_fno.network import FourierNetwork


class FNO(NetworkModel):
    """Fourier neural operator (paper, section 3 and appendix A); the network is `pdefm_fno.network.FourierNetwork`.

    Args:
        width: channels d of the hidden fields.
        modes: m; kept are the modes k_y = −m … m−1, k_x = 0 … m−1, so a grid needs at least 2m points a side.
        layers: number of Fourier layers.

    Raises:
        SettingError: one of them is below 1.
    """

    def __init__(self, width: int = 32, modes: int = 16, layers: int = 4) -> None:
        for name, value in (("width", width), ("modes", modes), ("layers", layers)):
            if value < 1:
                raise SettingError(name, f"must be at least 1, got {value}")
        self.width = width
        self.modes = modes
        self.layers = layers

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that is not periodic, or too coarse for the modes."""
        if not problem.grid.periodic:
            return "the FNO needs a periodic grid"
        if problem.grid.size < 2 * self.modes:
            return f"{self.modes} modes need a grid of at least {2 * self.modes} points a side, got {problem.grid.size}"
        return None

    def build(self, problem: Problem) -> FourierNetwork:
        """Return a new network for the channels of ``problem``."""
        return FourierNetwork(
            fields=len(problem.input_fields),
            constants=len(problem.constants),
            outputs=len(problem.outputs),
            width=self.width,
            modes=self.modes,
            depth=self.layers,
        )
