"""Look into an HDF5 file, even an incomplete one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm.data.hdf5.layout import channel_names, data_sets, is_complete, metadata, names, open_file

_SAMPLED = 16  # examples read by `inspect`


@dataclass(frozen=True)
class FileSummary:
    """The content of a file, from its header and a few examples.

    Args:
        examples: N.
        grid: n, points along each side.
        inputs, outputs, constants: channel names; ``constants`` is empty if the file does not name them.
        dtype: type of ``fields`` on disk.
        complete: whether the file was written to its end.
        metadata: the attribute ``pdefm``.
        ranges: smallest and largest value by channel, among ``sampled`` examples spread over the file.
        size_bytes: size of the file.
    """

    path: Path
    examples: int
    grid: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[str, ...]
    dtype: str
    complete: bool
    metadata: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sampled: int = 0
    size_bytes: int = 0


def inspect(path: Path) -> FileSummary:
    """Summarise a file."""
    with open_file(path) as file:
        fields, tensor = data_sets(path, file)
        inputs, outputs = channel_names(path, fields)
        constants = names(path, tensor, "channels")
        count = len(fields)
        ids = np.unique(np.linspace(0, max(count - 1, 0), min(count, _SAMPLED)).astype(int))
        rows = _labels("fields", (*inputs, *outputs), fields.shape[1])
        columns = _labels("tensor", constants, tensor.shape[1])
        return FileSummary(
            path=path,
            examples=count,
            grid=fields.shape[2],
            inputs=inputs,
            outputs=outputs,
            constants=constants,
            dtype=str(fields.dtype),
            complete=is_complete(file),
            metadata=metadata(path, file),
            ranges=_ranges(rows, fields[ids]) | _ranges(columns, tensor[ids]) if count else {},
            sampled=len(ids),
            size_bytes=path.stat().st_size,
        )


def _labels(data_set: str, known: tuple[str, ...], count: int) -> list[str]:
    """Return the channels' names, or numbers if the names do not fit."""
    return list(known) if len(known) == count else [f"{data_set}[{i}]" for i in range(count)]


def _ranges(labels: list[str], values: np.ndarray) -> dict[str, tuple[float, float]]:
    return {name: (float(values[:, i].min()), float(values[:, i].max())) for i, name in enumerate(labels)}
