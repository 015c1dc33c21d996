"""What the models of libraries share."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from torch import Tensor, nn

from pdebench_fm.errors import SettingError
from pdebench_fm.training import planes


class OnPlanes(nn.Module):
    """Calls a network of images with fields and constants joined, each constant as a plane.

    Args:
        network: maps (batch, channels, n, n) to (batch, outputs, n, n).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (batch, F, n, n) and constants (batch, K) to (batch, outputs, n, n)."""
        result: Tensor = self.network(planes(fields, constants))
        return result


def load(module: str) -> Any:
    """Import a module of a library, without the warnings that importing it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def check_least(least: int = 1, **arguments: int) -> None:
    """Check that arguments are at least ``least``.

    Raises:
        SettingError: one is smaller.
    """
    for name, value in arguments.items():
        if value < least:
            raise SettingError(name, f"must be at least {least}, got {value}")
