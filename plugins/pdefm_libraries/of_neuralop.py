"""FNO, TFNO, UNO and LocalNO of neuraloperator (https://neuraloperator.github.io)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel
from pdefm_libraries.library import OnPlanes, check_least, load


class FNO(NetworkModel):
    """The FNO of neuraloperator, with as many weights as ours of equal width and modes.

    It keeps all of the first count of modes and half of the second, so (2m, 2m − 1) are the modes of our FNO. What ours
    does not have is switched off: channel MLPs, the grid as an input, and a lifting MLP.

    Args:
        width: channels of the hidden fields.
        modes: m; a grid needs at least 2m points a side.
        layers: number of Fourier layers.
    """

    def __init__(self, width: int = 16, modes: int = 4, layers: int = 4) -> None:
        check_least(width=width, modes=modes, layers=layers)
        self.width = width
        self.modes = modes
        self.layers = layers

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that is not periodic, or too coarse for the modes."""
        if not problem.grid.periodic:
            return "it needs a periodic grid"
        if problem.grid.size < 2 * self.modes:
            return f"{self.modes} modes need a grid of at least {2 * self.modes} points a side, got {problem.grid.size}"
        return None

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels of ``problem``."""
        return OnPlanes(load("neuralop.models").FNO(**self._settings(problem)))

    def _settings(self, problem: Problem) -> dict[str, Any]:
        return {
            "n_modes": (2 * self.modes, 2 * self.modes - 1),
            "in_channels": len(problem.inputs),
            "out_channels": len(problem.outputs),
            "hidden_channels": self.width,
            "n_layers": self.layers,
            "lifting_channel_ratio": 0,
            "projection_channel_ratio": 2,
            "positional_embedding": None,
            "use_channel_mlp": False,
            "channel_mlp_skip": None,
            "fno_skip": "linear",
        }


class TFNO(FNO):
    """The same with spectral weights in Tucker form.

    Args:
        width: channels of the hidden fields.
        modes: m; a grid needs at least 2m points a side.
        layers: number of Fourier layers.
        rank: numbers of the factors, as a part of those of the full weights.
    """

    def __init__(self, width: int = 16, modes: int = 4, layers: int = 4, rank: float = 0.5) -> None:
        super().__init__(width, modes, layers)
        if not 0 < rank <= 1:
            raise SettingError("rank", f"must be more than 0 and at most 1, got {rank}")
        self.rank = rank

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels of ``problem``."""
        settings = {**self._settings(problem), "factorization": "Tucker", "rank": self.rank}
        return OnPlanes(load("neuralop.models").FNO(**settings))


class LocalNO(FNO):
    """The same with local convolutions beside the spectral ones; needs torch-harmonics too."""

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels and the grid of ``problem``."""
        settings = self._settings(problem)
        settings["local_no_skip"] = settings.pop("fno_skip")
        shape, length = (problem.grid.size,) * 2, [problem.grid.length] * 2
        network = load("neuralop.models").LocalNO(**settings, default_in_shape=shape, domain_length=length)
        return OnPlanes(network)

    def parts(self) -> Mapping[str, Sequence[str]]:
        """Name them, because the network cannot be built on torch's meta device."""
        return {"embedding": ["network.lifting"], "head": ["network.projection.fcs.1"]}


class UNO(FNO):
    """The U-shaped neural operator: four layers, the middle two on half the points.

    Args:
        width: channels of the outer layers; the inner ones have twice as many.
        modes: m, of every layer; a grid needs at least 4m points a side.
    """

    def __init__(self, width: int = 16, modes: int = 4) -> None:
        super().__init__(width, modes, 4)

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that cannot be halved, or is too coarse for the modes then."""
        if problem.grid.size % 2 or problem.grid.size < 4 * self.modes:
            return f"it needs an even number of at least {4 * self.modes} points a side, got {problem.grid.size}"
        return super().supports(problem)

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels of ``problem``."""
        shared = ("in_channels", "out_channels", "hidden_channels", "n_layers", "positional_embedding")
        settings = {name: value for name, value in self._settings(problem).items() if name in shared}
        make = load("neuralop.models").UNO
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its settings
            network = make(
                **settings,
                channel_mlp_skip="linear",
                lifting_channels=2 * self.width,
                projection_channels=2 * self.width,
                uno_out_channels=[self.width, 2 * self.width, 2 * self.width, self.width],
                uno_n_modes=[[2 * self.modes, 2 * self.modes - 1]] * 4,
                uno_scalings=[[1, 1], [0.5, 0.5], [1, 1], [2, 2]],
            )
        return OnPlanes(network)
