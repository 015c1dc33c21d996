"""Split batches so that a piece fits in a CPU's cache: larger pieces are up to five times slower."""

from __future__ import annotations

from collections.abc import Sized
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

POINTS = 2**18
"""Grid points worked on at a time on a CPU: 16 examples at 128²."""


def of_fields(fields: Tensor) -> list[slice]:
    """Split a batch of fields (batch, n, n) on a CPU; one slice on other devices."""
    batch = fields.shape[0]
    step = max(1, POINTS // (fields.shape[1] * fields.shape[2])) if fields.device.type == "cpu" else max(1, batch)
    return of_length(batch, step)


def of_rows(batch: Sized) -> list[slice]:
    """Split a sequence of examples whose spectra are worked on in numpy."""
    return of_length(len(batch), 32)


def of_length(length: int, step: int) -> list[slice]:
    """Split range(length) into slices of ``step``."""
    return [slice(start, start + step) for start in range(0, length, step)]
