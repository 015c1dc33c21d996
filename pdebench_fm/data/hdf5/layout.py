"""Open an HDF5 file and check that its parts fit each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pdebench_fm._util.text import one_line, show
from pdebench_fm.errors import DataFileError, UsageError
from pdebench_fm.problem import Channel, Grid, Problem

if TYPE_CHECKING:
    import h5py

ReadColumns = Callable[[np.ndarray], Mapping[str, np.ndarray] | None]
"""`PDESystem.read_columns`: from the columns of ``tensor``, (N, C), to constants by name, (N,)."""

_OF_A_PROBLEM = ("homogeneous", "periodic", "length")
"""Keys of a problem that would be overlooked beside it."""


@dataclass(frozen=True)
class Header:
    """What a file says about its examples.

    Args:
        rows: names of the channels of ``fields``, in order.
        constants: names of the constants, in order.
        published: whether the file names nothing and its PDE reads the columns.
        states_problem: whether the grid and the rest of the problem are the file's own words.
    """

    length: int
    problem: Problem
    rows: tuple[str, ...]
    constants: tuple[str, ...]
    published: bool
    states_problem: bool


@contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open a file for a while; errors of HDF5 become `DataFileError`s that name it."""
    with naming(path), handle(path) as file:
        yield file


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn errors of HDF5 into `DataFileError`s that name the file."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read: {reason(error)}") from error


def handle(path: Path) -> h5py.File:
    """Open a file for reading."""
    import h5py

    if not path.exists():
        raise DataFileError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        text = reason(error)
        if "truncated" in text:
            raise DataFileError(f"{path}: is truncated: {text}") from None
        if "signature" in text:
            raise DataFileError(f"{path}: is not an HDF5 file") from None
        raise DataFileError(f"{path}: cannot be opened: {text}") from None


def reason(error: BaseException) -> str:
    """Return the text of an error on one line, with advice if a lock is the reason."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    advice = ""
    if "unable to lock" in text:
        advice = "; if no other program is writing it, its file system has no locks: set HDF5_USE_FILE_LOCKING=FALSE"
    return (one_line(text) or type(error).__name__) + advice


def read_header(path: Path, columns: ReadColumns | None = None) -> Header:
    """Read what a file says about its examples, and check that its parts fit.

    Args:
        columns: names the columns of a file that names nothing.
    """
    with open_file(path) as file:
        fields, tensor = data_sets(path, file)
        published = columns is not None and names_nothing(file)
        if columns is not None and published:
            constants = tuple(named_columns(path, columns, np.empty((0, tensor.shape[1]), np.float32)))
        else:
            constants = _constants(path, file, tensor)
        inputs, outputs = channel_names(path, fields)
        if len(inputs) + len(outputs) != fields.shape[1]:
            names = ", ".join((*inputs, *outputs))
            raise DataFileError(f"{path}: 'fields' has {fields.shape[1]} channels, its names are {names}")
        channels_in = (*(Channel(name) for name in inputs), *(Channel(name, "constant") for name in constants))
        problem = _problem(path, file, channels_in, tuple(map(Channel, outputs)), Grid(int(fields.shape[2])))
        stated = "problem" in metadata(path, file)
        return Header(int(fields.shape[0]), problem, (*inputs, *outputs), constants, published, stated)


def _constants(path: Path, file: h5py.File, tensor: h5py.Dataset) -> tuple[str, ...]:
    """Return the names of the constants in a file that names them."""
    advice = "; set the distribution's system to read a file without names" if names_nothing(file) else ""
    if not is_complete(file):
        raise DataFileError(f"{path}: is incomplete: the attribute 'complete' must be 1; it is written last{advice}")
    if "channels" not in tensor.attrs:
        raise DataFileError(f"{path}: the attribute 'channels' of 'tensor' is missing; it names the constants{advice}")
    constants = names(path, tensor, "channels")
    if len(constants) != tensor.shape[1]:
        raise DataFileError(f"{path}: 'tensor' has {tensor.shape[1]} columns, 'channels' names {len(constants)}")
    return constants


def _problem(
    path: Path, file: h5py.File, inputs: tuple[Channel, ...], outputs: tuple[Channel, ...], grid: Grid
) -> Problem:
    """Return the problem in the attribute ``pdefm`` if there is one, otherwise a plain one with these channels."""
    about = metadata(path, file)
    for key in _OF_A_PROBLEM:
        if key in about:
            raise DataFileError(
                f"{path}: the attribute 'pdefm' has {key!r}, which nothing reads; it belongs into 'problem'"
            )
    try:
        found = Problem(inputs, outputs, grid)
    except UsageError as error:
        raise DataFileError(f"{path}: its channels describe no problem: {error}") from None
    try:
        stated = Problem.parse(about["problem"]) if "problem" in about else found
    except UsageError as error:
        raise DataFileError(f"{path}: the attribute 'pdefm': problem: {error}") from None
    if set(stated.inputs) != set(inputs) or stated.outputs != outputs or stated.grid.size != grid.size:
        said, there = _in_words(stated), _in_words(found)
        raise DataFileError(f"{path}: the attribute 'pdefm' describes {said}; the data sets have {there}")
    return stated


def _in_words(problem: Problem) -> str:
    """Return channels and grid, e.g. ``source, k (constant) → solution on 32 points a side``."""
    inputs = sorted(c.name if c.role == "field" else f"{c.name} (constant)" for c in problem.inputs)
    return f"{', '.join(inputs)} → {', '.join(problem.output_names)} on {problem.grid.size} points a side"


def data_sets(path: Path, file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Return ``fields`` and ``tensor`` after a check of their shapes and types."""
    import h5py

    for name, shape in (("fields", "(N, channels, n, n)"), ("tensor", "(N, C)")):
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise DataFileError(f"{path}: has no data set {name!r} {shape}")
        if found.is_virtual or found.external or found.file.filename != file.filename:  # the hash would not cover it
            raise DataFileError(f"{path}: {name!r} is in another file; write the examples into this one")
        if len(found.shape) != shape.count(",") + 1:
            raise DataFileError(f"{path}: {name!r} must have shape {shape}, got {found.shape}")
        if found.dtype.kind != "f" or found.dtype.itemsize not in (4, 8):
            raise DataFileError(f"{path}: {name!r} must be float32, got {found.dtype}")
    fields, tensor = file["fields"], file["tensor"]
    if fields.shape[2] != fields.shape[3]:
        raise DataFileError(
            f"{path}: 'fields' must have shape (N, channels, n, n), got {fields.shape}; grids are square"
        )
    if fields.shape[0] != tensor.shape[0]:
        raise DataFileError(f"{path}: 'fields' has {fields.shape[0]} examples, 'tensor' {tensor.shape[0]}")
    return fields, tensor


def channel_names(path: Path, fields: h5py.Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of inputs and outputs in ``fields``."""
    return names(path, fields, "inputs", ("source",)), names(path, fields, "outputs", ("solution",))


def names(path: Path, item: h5py.Dataset, attribute: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names in an attribute."""
    found = _json(path, item, attribute, list, default)
    if not all(isinstance(name, str) for name in found):
        raise DataFileError(f"{path}: the attribute {attribute!r} must be a JSON list of names, got {show(found)}")
    return tuple(found)


def metadata(path: Path, file: h5py.File) -> dict[str, Any]:
    """Return the attribute ``pdefm``; empty if there is none."""
    return dict(_json(path, file, "pdefm", dict, {}))


def _json(path: Path, item: h5py.Group | h5py.Dataset, attribute: str, kind: type, default: Any) -> Any:
    if attribute not in item.attrs:
        return default
    text = item.attrs[attribute]
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        value = None
    if not isinstance(value, kind):
        wanted = "list of names" if kind is list else "object"
        raise DataFileError(f"{path}: the attribute {attribute!r} must be a JSON {wanted}, got {show(text)}")
    return value


def is_complete(file: h5py.File) -> bool:
    """Return whether the file was written to its end."""
    value = np.asarray(file.attrs.get("complete", 0))
    return value.size == 1 and value.item() == 1


def published_grid(path: Path) -> Grid | None:
    """Return the grid of a file that names nothing, as published with the paper; None for any other file."""
    with open_file(path) as file:
        fields, _ = data_sets(path, file)
        return Grid(int(fields.shape[2])) if names_nothing(file) else None


def names_nothing(file: h5py.File) -> bool:
    """Return whether a file says nothing about its channels and their origin."""
    return "pdefm" not in file.attrs and "channels" not in file["tensor"].attrs


def named_columns(path: Path, read: ReadColumns, numbers: np.ndarray) -> Mapping[str, np.ndarray]:
    """Let a PDE read the columns of ``tensor``, (N, C), as constants by name, (N,)."""
    try:
        named = read(numbers)
    except UsageError as error:
        raise DataFileError(f"{path}: 'tensor' does not name its columns: {error}") from None
    if named is None:
        raise DataFileError(f"{path}: 'tensor' does not name its columns, and the system knows no order for them")
    return named


def unusable(names: Sequence[str], values: np.ndarray) -> tuple[int, str] | None:
    """Return the first example that float32 cannot hold and what is wrong with it; None if all is well.

    A field may fade into zeros, but not vanish as a whole.

    Args:
        values: (examples, channels, …).
    """
    largest = np.abs(values).max(axis=tuple(range(2, values.ndim)))  # NaN stays NaN
    limits = np.finfo(np.float32)
    bad = ~((largest == 0) | ((largest >= limits.tiny) & (largest <= limits.max)))
    if not bad.any():
        return None
    example, channel = np.argwhere(bad)[0]
    size = largest[example, channel]
    if not np.isfinite(size):
        return int(example), "has values that are not finite"
    where = f"float32 holds {limits.tiny:.1e} to {limits.max:.1e}; use other units"
    return int(example), f"has {names[channel]!r} of size {size:.1e}, {where}"
