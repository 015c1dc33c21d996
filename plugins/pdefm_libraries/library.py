"""Import a library when a model needs it, and say how to get it if it is missing."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from typing import Any, ClassVar

from torch import Tensor, nn

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel, planes


class LibraryModel(NetworkModel):
    """A network of a library.

    Attributes:
        needs: the modules that must be installed, and the extra of pdebench_fm that installs each.
    """

    needs: ClassVar[dict[str, str]] = {}

    def supports(self, problem: Problem) -> str | None:
        """Refuse if a library is missing."""
        for module, extra in self.needs.items():
            if importlib.util.find_spec(module) is None:
                return f"it needs {module}, which is not installed: pip install 'pdebench_fm[{extra}]'"
        return None


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
