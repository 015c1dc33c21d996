"""Write examples to an HDF5 file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdebench_fm._util.files import replacing
from pdebench_fm.data.hdf5.layout import reason, unusable
from pdebench_fm.errors import NotWrittenError
from pdebench_fm.problem import Fields, Problem

if TYPE_CHECKING:
    import h5py


def export(
    path: Path,
    problem: Problem,
    batches: Iterable[tuple[Fields, Fields]],
    count: int,
    metadata: Mapping[str, Any],
) -> None:
    """Write examples to a file, which appears under its name only when it is complete.

    Args:
        batches: inputs and outputs, ``count`` examples in all.
        metadata: plain data (JSON) that describes the examples.
    """
    import h5py

    try:
        with replacing(path) as part:
            _claim_space(part, problem, count)
            with h5py.File(part, "w") as file:
                _write(file, path, problem, batches, count, metadata)
                file.attrs["complete"] = 1
            with part.open("rb") as written:
                os.fsync(written.fileno())  # before the file gets its name
    except (OSError, RuntimeError, ValueError) as error:  # h5py turns a full disk into any of these
        raise NotWrittenError(f"{path}: cannot be written: {reason(error)}") from error


def _claim_space(part: Path, problem: Problem, count: int) -> None:
    """Find out whether the disk has room for a file. HDF5 cannot: after a failed write it crashes when Python exits."""
    planes = len(problem.input_fields) + len(problem.output_names)
    if hasattr(os, "posix_fallocate"):
        with part.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 4 * count * (planes * problem.grid.size**2 + len(problem.constants)))


def _write(
    file: h5py.File,
    path: Path,
    problem: Problem,
    batches: Iterable[tuple[Fields, Fields]],
    count: int,
    metadata: Mapping[str, Any],
) -> None:
    n = problem.grid.size
    names = (*problem.input_fields, *problem.output_names)
    file.attrs["pdefm"] = json.dumps({**metadata, "problem": problem.describe()}, sort_keys=True, allow_nan=False)
    fields = file.create_dataset("fields", (count, len(names), n, n), "float32")
    fields.attrs["inputs"] = json.dumps(problem.input_fields)
    fields.attrs["outputs"] = json.dumps(problem.output_names)
    tensor = file.create_dataset("tensor", (count, len(problem.constants)), "float32")
    tensor.attrs["channels"] = json.dumps(problem.constants)

    done = 0
    for inputs, outputs in batches:
        values = {name: value.detach().cpu().numpy() for name, value in {**inputs, **outputs}.items()}
        planes = np.stack([values[name] for name in names], axis=1)
        numbers = np.stack([values[name] for name in problem.constants], axis=1) if problem.constants else None
        stop = done + len(planes)
        for kind, found in ((names, planes), (problem.constants, numbers)):
            if found is not None and (bad := unusable(kind, found)):
                raise NotWrittenError(f"{path}: not written: example {done + bad[0]} {bad[1]}")
        if stop > count:
            raise NotWrittenError(f"{path}: not written: expected {count} examples, got at least {stop}")
        fields[done:stop] = planes
        if numbers is not None:
            tensor[done:stop] = numbers
        done = stop
    if done != count:
        raise NotWrittenError(f"{path}: not written: expected {count} examples, got {done}")
