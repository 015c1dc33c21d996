"""The time at which a device has done its work."""

from __future__ import annotations

import time


def now(device: str) -> float:
    """Return the time in seconds, once the device has done all that it was asked to do."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
