"""The examples of an HDF5 file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdebench_fm.data.hdf5.layout import ReadColumns, handle, named_columns, naming, read_header, unusable
from pdebench_fm.errors import DataFileError
from pdebench_fm.interfaces.examples import Examples, Ids
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    import h5py
    import torch


class HDF5Examples(Examples):
    """The examples of a file, read batch by batch.

    Args:
        problem: channels and grid, with the file's names; by default what the file says.
        columns: reads the constants of a published file, which names nothing and needs no ``complete``.
    """

    def __init__(
        self,
        path: Path,
        device: torch.device | str = "cpu",
        problem: Problem | None = None,
        columns: ReadColumns | None = None,
    ) -> None:
        self.path = path
        self._device = device
        self._header = read_header(path, columns)
        self._problem = self._header.problem if problem is None else problem
        self._read_columns = columns if self._header.published else None
        self._file: h5py.File | None = None
        self._owner = 0  # process that opened the file: an HDF5 handle does not survive a fork

    @property
    def problem(self) -> Problem:
        """Channels and grid."""
        return self._problem

    @property
    def states_problem(self) -> bool:
        """Whether the file itself says what its grid is, and not only what its channels are called."""
        return self._header.states_problem

    def __len__(self) -> int:
        return self._header.length

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Read examples, in any order and with repeats."""
        import torch

        index = np.asarray(ids, dtype=np.int64)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise DataFileError(f"{self.path}: has examples 0 … {len(self) - 1}, got {index.min()} … {index.max()}")
        wanted, back = np.unique(index, return_inverse=True)
        with naming(self.path):
            file = self._open()
            planes, numbers = _rows(file["fields"], wanted), _rows(file["tensor"], wanted)
        if self._read_columns is not None:
            named = named_columns(self.path, self._read_columns, numbers)
            numbers = np.stack([named[name] for name in self._header.constants], axis=1)
        for names, read in ((self._header.rows, planes), (self._header.constants, numbers)):
            if found := unusable(names, read):
                raise DataFileError(f"{self.path}: example {wanted[found[0]]} {found[1]}")
        planes, numbers = planes.astype(np.float32), numbers.astype(np.float32)
        fields, tensor = (torch.from_numpy(array[back]).to(self._device) for array in (planes, numbers))
        values = {name: fields[:, i].contiguous() for i, name in enumerate(self._header.rows)}
        values |= {name: tensor[:, i].contiguous() for i, name in enumerate(self._header.constants)}
        inputs = {name: values[name] for name in self._problem.input_names}
        return inputs, {name: values[name] for name in self._problem.output_names}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _open(self) -> h5py.File:
        """Return this process's own handle."""
        if self._file is None or self._owner != os.getpid():
            self._file, self._owner = handle(self.path), os.getpid()
        return self._file


def _rows(data: h5py.Dataset, wanted: np.ndarray) -> np.ndarray:
    """Read rows given in increasing order, a run of neighbours at a time."""
    rows = np.empty((len(wanted), *data.shape[1:]), dtype=data.dtype)
    starts = np.flatnonzero(np.diff(wanted, prepend=wanted[:1] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
        rows[start:stop] = data[int(wanted[start]) : int(wanted[start]) + int(stop - start)]
    return rows
