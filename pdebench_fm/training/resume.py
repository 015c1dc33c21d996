"""Resume state of a fit: written now and then, atomically, and at most 5% of the time."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

from pdebench_fm._util.files import replacing

_SHORTEST = 3.0
_SHARE = 0.05


class ResumeFile:
    """One file that holds the newest state of a fit.

    A killed fit loses what it did since the last write: `_SHORTEST` seconds, or as long as keeps writing at `_SHARE` of
    the time where the state is large.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = time.monotonic()
        self._cost = 0.0

    def read(self) -> dict[str, Any] | None:
        """Return the state, or None where there is none that can be read."""
        import torch

        try:
            state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError):
            return None
        return state

    def due(self) -> bool:
        """Whether enough time has passed for another write."""
        return time.monotonic() - self._last >= max(_SHORTEST, self._cost / _SHARE)

    def write(self, state: dict[str, Any]) -> None:
        """Replace the file by ``state``; a reader sees the old state or the new one, never a part."""
        import torch

        start = time.monotonic()
        with replacing(self._path) as temporary:
            torch.save(state, temporary)
        self._last = time.monotonic()
        self._cost = self._last - start

    def remove(self) -> None:
        """Delete the file where there is one."""
        self._path.unlink(missing_ok=True)
