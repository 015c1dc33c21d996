"""The resume file of a fit, and the tensors that have to be kept to get a network back."""

from __future__ import annotations

import pickle
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pdebench_fm._util import saving
from pdebench_fm._util.files import remove, replacing

SAVE_INTERVAL = 3.0
"""Seconds of work that a killed fit may lose, if its state is small."""
_SHARE = 0.05  # of the time may be spent on writing


class ResumeFile:
    """One file that holds the newest state of a fit.

    Args:
        interval: seconds between two writes, at least. They are further apart if writing would take over 5% of the
            time, unless the interval is 0.
    """

    def __init__(self, path: Path, interval: float = SAVE_INTERVAL) -> None:
        self._path = path
        self._interval = interval
        self._last = time.monotonic()
        self._cost = 0.0

    def read(self) -> dict[str, Any] | None:
        """Return the state, or None if there is none that can be read."""
        try:
            with zipfile.ZipFile(self._path) as file:  # torch writes checksums, and does not compare them
                if file.testzip() is not None:
                    return None
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError, zipfile.BadZipFile):
            return None
        return state

    def due(self) -> bool:
        """Whether enough time has passed for another write."""
        waited = time.monotonic() - self._last
        if saving.is_wanted():
            return True
        return self._interval == 0 or (waited >= self._interval and waited * _SHARE >= self._cost)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file by ``state`` atomically."""
        start, asked = time.monotonic(), saving.asked()
        with replacing(self._path) as temporary:
            torch.save(state, temporary)
        self._last = time.monotonic()
        self._cost = self._last - start
        saving.written(asked)

    def remove(self) -> None:
        """Delete the file if there is one."""
        remove(self._path)


def lasting_tensors(module: nn.Module) -> list[Tensor]:
    """Return the parameters and persistent buffers, in their compute layout."""
    return [*(parameter.detach() for parameter in module.parameters()), *lasting_buffers(module)]


def lasting_buffers(module: nn.Module) -> list[Tensor]:
    """Return the buffers that are part of a checkpoint."""
    return [
        buffer
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
        if name not in owner._non_persistent_buffers_set
    ]


@torch.no_grad()
def copy_into(module: nn.Module, values: Sequence[Tensor]) -> None:
    """Give a network the tensors that `lasting_tensors` returned earlier."""
    for tensor, value in zip(lasting_tensors(module), values, strict=True):
        if tensor.shape != value.shape:  # a buffer that grows
            tensor.data = torch.empty_like(value, device=tensor.device)
        tensor.copy_(value)
