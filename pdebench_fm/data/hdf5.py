"""Examples in HDF5 files: write them, look into them, train and score on them.

A file holds ``fields`` (N, inputs + outputs, n, n) float32, ``tensor`` (N, C) float32 with the attribute ``channels``
(JSON list of the constants' names), the file attribute ``pdefm`` (JSON: where the examples come from) and the file
attribute ``complete`` = 1, written last. ``fields`` may carry the attributes ``inputs`` and ``outputs`` (JSON lists of
names; ``["source"]`` and ``["solution"]`` where absent). The paper's own files have the two data sets and no names: the
PDE then says what the columns are, see `PDESystem.read_columns`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pdebench_fm._util.files import replacing
from pdebench_fm._util.text import one_line, reason_of
from pdebench_fm.errors import PLUGIN_ERRORS, DataFileError, NotWrittenError, PdefmError, UsageError
from pdebench_fm.interfaces.examples import Examples, Ids
from pdebench_fm.problem import Channel, Fields, Grid, Problem

if TYPE_CHECKING:
    import h5py
    import torch

ReadColumns = Callable[[np.ndarray], Mapping[str, np.ndarray] | None]
"""`PDESystem.read_columns`: the columns of ``tensor``, (N, C), to constants by name, (N,)."""

_CHUNK = 1 << 20  # bytes hashed at a time
_SAMPLED = 16  # examples read by `inspect`


@dataclass(frozen=True)
class FileSummary:
    """What a file holds, from its header and a few examples.

    Args:
        examples: N.
        grid: n, points along each side.
        inputs, outputs, constants: channel names; ``constants`` is empty where the file does not name them.
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


def export(
    path: Path,
    problem: Problem,
    batches: Iterator[tuple[Fields, Fields]],
    count: int,
    metadata: Mapping[str, Any],
    *,
    overwrite: bool = True,
) -> None:
    """Write examples to a file, which appears under its name only when whole and on disk.

    Args:
        path: the file.
        problem: names and order of the channels, and the grid.
        batches: inputs and outputs, ``count`` examples in all.
        metadata: plain data (JSON) that says where the examples come from.
        overwrite: whether a file of that name is replaced, even one that appears while the examples are made.

    Raises:
        UsageError: there is one, and it is not to be replaced.
        NotWrittenError: the file cannot be written, or the batches do not hold ``count`` finite examples.
    """
    import h5py

    try:
        with replacing(path, existing=overwrite) as part:
            with h5py.File(part, "w") as file:
                _write(file, path, problem, batches, count, metadata)
                file.flush()
                _sync(part)  # the examples reach the disk before the mark that says so
                file.attrs["complete"] = 1
            _sync(part)
        _sync(path.parent)
    except FileExistsError:
        raise UsageError(f"{path}: exists; give --overwrite to replace it") from None
    except (OSError, RuntimeError, ValueError) as error:  # h5py turns a full disk into any of these
        raise NotWrittenError(f"{path}: cannot be written: {_reason(error)}") from error


def _write(
    file: h5py.File,
    path: Path,
    problem: Problem,
    batches: Iterator[tuple[Fields, Fields]],
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
        values = {**inputs, **outputs}
        lacking = [name for name in (*names, *problem.constants) if name not in values]
        if lacking:
            raise NotWrittenError(f"{path}: not written: {', '.join(map(repr, lacking))} not among {', '.join(values)}")
        planes = np.stack([values[name].detach().cpu().numpy() for name in names], axis=1).astype(np.float32)
        numbers = np.empty((len(planes), len(problem.constants)), dtype=np.float32)
        for i, name in enumerate(problem.constants):
            numbers[:, i] = values[name].detach().cpu().numpy()
        if not (np.isfinite(planes).all() and np.isfinite(numbers).all()):
            raise NotWrittenError(f"{path}: not written: examples {done} … {done + len(planes) - 1} are not finite")
        if done + len(planes) > count:
            raise NotWrittenError(f"{path}: not written: more than the {count} examples announced")
        fields[done : done + len(planes)] = planes
        if numbers.shape[1]:
            tensor[done : done + len(planes)] = numbers
        done += len(planes)
    if done != count:
        raise NotWrittenError(f"{path}: not written: {count} examples were announced, {done} came")


def inspect(path: Path) -> FileSummary:
    """Look into a file: its header, and the value ranges of a few examples. An incomplete file is described as such.

    Raises:
        DataFileError: the file is missing, no HDF5, or has not the two data sets.
    """
    with _opened(path) as file, _reading(path):
        fields, tensor = _data_sets(path, file)
        constants = _names(path, tensor, "channels", ())
        inputs = _names(path, fields, "inputs", ("source",))
        outputs = _names(path, fields, "outputs", ("solution",))
        count, planes, n, _ = fields.shape
        ids = np.unique(np.linspace(0, count - 1, min(count, _SAMPLED)).astype(int)) if count else np.zeros(0, int)
        labels = (
            (*inputs, *outputs) if len(inputs) + len(outputs) == planes else [f"fields[{i}]" for i in range(planes)]
        )
        columns = constants if len(constants) == tensor.shape[1] else [f"tensor[{i}]" for i in range(tensor.shape[1])]
        ranges: dict[str, tuple[float, float]] = {}
        if len(ids):
            values, numbers = np.stack([fields[i] for i in ids]), np.stack([tensor[i] for i in ids])
            ranges.update({name: _range(values[:, i]) for i, name in enumerate(labels)})
            ranges.update({name: _range(numbers[:, i]) for i, name in enumerate(columns)})
        return FileSummary(
            path=path,
            examples=count,
            grid=n,
            inputs=inputs,
            outputs=outputs,
            constants=constants,
            dtype=str(fields.dtype),
            complete=_is_complete(file),
            metadata=_metadata(path, file),
            ranges=ranges,
            sampled=len(ids),
            size_bytes=path.stat().st_size,
        )


class HDF5Examples(Examples):
    """The examples of a file, read batch by batch. Each process opens the file for itself, when it first reads.

    Args:
        path: the file.
        device: torch device of the batches.
        problem: what the file's channels are to be taken for, with the same names; what the file says where None.
        columns: reads the constants of a file that says nothing about itself (see `published_grid`); such a file needs
            no ``complete`` either.

    Raises:
        DataFileError: the file is missing, no HDF5, truncated, incomplete, or its parts do not fit each other.
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
        self._file: h5py.File | None = None
        self._owner = 0  # process that opened the file: an HDF5 handle does not survive a fork
        with _opened(path) as file, _reading(path):
            self._read = columns if _names_nothing(file) else None
            channels: tuple[str, ...] | None = None
            if self._read is not None:
                _, tensor = _data_sets(path, file)
                channels = tuple(_read_columns(path, self._read, np.empty((0, tensor.shape[1]), np.float32)))
            described, self._length = _header(path, file, channels)
            self._problem = described if problem is None else problem
            self._columns = channels if channels is not None else _names(path, file["tensor"], "channels", ())
            self._rows = _names(path, file["fields"], "inputs", ("source",)) + _names(
                path, file["fields"], "outputs", ("solution",)
            )

    @property
    def problem(self) -> Problem:
        """The problem that the file's names, grid and attribute ``pdefm`` describe."""
        return self._problem

    def __len__(self) -> int:
        return self._length

    def batch(self, ids: Ids) -> tuple[Fields, Fields]:
        """Read examples, in any order and with repeats.

        Raises:
            DataFileError: an id is out of range, the file cannot be read, or a value is not finite.
        """
        import torch

        index = np.asarray(ids, dtype=np.int64)
        if len(index) and (index.min() < 0 or index.max() >= self._length):
            raise DataFileError(f"{self.path}: has examples 0 … {self._length - 1}, got {index.min()} … {index.max()}")
        wanted, back = np.unique(index, return_inverse=True)
        with _reading(self.path):
            file = self._handle()
            planes, numbers = _rows(file["fields"], wanted), _rows(file["tensor"], wanted)
        if self._read is not None:
            named = _read_columns(self.path, self._read, numbers)
            numbers = np.stack([named[name] for name in self._columns], axis=1).astype(np.float32)
        bad = ~(np.isfinite(planes).all(axis=(1, 2, 3)) & np.isfinite(numbers).all(axis=1))
        if bad.any():
            raise DataFileError(f"{self.path}: example {wanted[bad][0]} holds values that are not finite")
        fields, tensor = (torch.from_numpy(array[back]).to(self._device) for array in (planes, numbers))
        values = {name: fields[:, i].contiguous() for i, name in enumerate(self._rows)}
        values |= {name: tensor[:, i].contiguous() for i, name in enumerate(self._columns)}
        inputs = {name: values[name] for name in self._problem.input_names}
        return inputs, {name: values[name] for name in self._problem.output_names}

    def close(self) -> None:
        """Close this process's handle; the next batch opens it again."""
        if self._file is not None and self._owner == os.getpid():
            self._file.close()
        self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def _handle(self) -> h5py.File:
        if self._file is None or self._owner != os.getpid():
            self._file, self._owner = _opened(self.path), os.getpid()
        return self._file


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, hexadecimal; remembered for as long as nothing says that it was changed.

    Raises:
        DataFileError: the file cannot be read.
    """
    try:
        status = path.stat()
        # Archives and touch -r give two files one size and one time; the number and time of the entry still differ.
        marks = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        key = "\0".join((str(path.resolve()), *map(str, marks)))
        cached = _cache_folder() / "hashes" / hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        known = _read_hash(cached)
        if known:
            return known
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {_reason(error)}") from None
    _keep_hash(cached, digest.hexdigest())
    return digest.hexdigest()


def _cache_folder() -> Path:
    import platformdirs

    given = os.environ.get("PDEFM_CACHE_DIR")
    return Path(given) if given else Path(platformdirs.user_cache_dir("pdebench_fm"))


def _read_hash(cached: Path) -> str:
    try:
        text = cached.read_text("ascii")
    except (OSError, ValueError):
        return ""
    return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else ""


def _keep_hash(cached: Path, digest: str) -> None:
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        cached.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cached) as part:
            part.write_text(digest, "ascii")


def published_grid(path: Path) -> Grid | None:
    """Grid of a file that says nothing about itself, neither names nor origin, as published with the paper; else None.

    Raises:
        DataFileError: the file is missing, no HDF5, or has not the two data sets.
    """
    with _opened(path) as file, _reading(path):
        fields, _ = _data_sets(path, file)
        return Grid(int(fields.shape[2])) if _names_nothing(file) else None


def _names_nothing(file: h5py.File) -> bool:
    tensor = file.get("tensor")
    return "pdefm" not in file.attrs and tensor is not None and "channels" not in tensor.attrs


def _read_columns(path: Path, read: ReadColumns, numbers: np.ndarray) -> Mapping[str, np.ndarray]:
    try:
        named = read(numbers)
    except UsageError as error:
        raise DataFileError(f"{path}: 'tensor' does not name its columns: {error}") from None
    except PLUGIN_ERRORS as error:
        raise DataFileError(f"{path}: its system cannot read the columns of 'tensor': {reason_of(error)}") from error
    if named is None:
        raise DataFileError(f"{path}: 'tensor' does not name its columns, and the system knows no order for them")
    return named


def _header(path: Path, file: h5py.File, channels: tuple[str, ...] | None) -> tuple[Problem, int]:
    """Check that the parts of a file fit each other; return its problem and how many examples it holds.

    Args:
        path: where it lies.
        file: the file.
        channels: names of the constants that `_read_columns` makes of the columns, which need not be as many; None
            where the file names them.
    """
    fields, tensor = _data_sets(path, file)
    advice = "; a file that names nothing is read where the suite states its system" if _names_nothing(file) else ""
    if channels is None and not _is_complete(file):
        raise DataFileError(f"{path}: is incomplete: the attribute 'complete' must be 1; it is written last{advice}")
    if channels is None and "channels" not in tensor.attrs:
        raise DataFileError(f"{path}: the attribute 'channels' of 'tensor' is missing; it names the constants{advice}")
    constants = channels if channels is not None else _names(path, tensor, "channels", ())
    if channels is None and len(constants) != tensor.shape[1]:
        raise DataFileError(f"{path}: 'tensor' has {tensor.shape[1]} columns, 'channels' names {len(constants)}")
    inputs, outputs = _names(path, fields, "inputs", ("source",)), _names(path, fields, "outputs", ("solution",))
    if len(inputs) + len(outputs) != fields.shape[1]:
        names = ", ".join((*inputs, *outputs))
        raise DataFileError(f"{path}: 'fields' has {fields.shape[1]} channels, its names are {names}")
    description = _metadata(path, file).get("problem")
    size = int(fields.shape[2])
    try:
        channels_in = (*(Channel(name) for name in inputs), *(Channel(name, "constant") for name in constants))
        problem = Problem(channels_in, tuple(Channel(name) for name in outputs), Grid(size))
        if description is None:
            return problem, int(fields.shape[0])
        stated = Problem.parse(description)
    except (PdefmError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataFileError(f"{path}: its channels describe no problem: {_reason(error)}") from None
    if set(stated.inputs) != set(problem.inputs) or stated.outputs != problem.outputs or stated.grid.size != size:
        raise DataFileError(
            f"{path}: the attribute 'pdefm' describes other channels or another grid than the data have"
        )
    return stated, int(fields.shape[0])


def _data_sets(path: Path, file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Return ``fields`` and ``tensor``, of fitting shapes."""
    import h5py

    for name, shape in (("fields", "(N, channels, n, n)"), ("tensor", "(N, C)")):
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise DataFileError(f"{path}: has no data set {name!r} {shape}")
        if found.is_virtual or found.external or found.file.filename != file.filename:  # no part of what is hashed
            raise DataFileError(f"{path}: {name!r} lies in other files; write the examples into this one")
        if found.shape is None or len(found.shape) != shape.count(",") + 1:
            raise DataFileError(f"{path}: {name!r} must have shape {shape}, got {found.shape}")
        if found.dtype.kind != "f" or found.dtype.itemsize not in (4, 8):
            raise DataFileError(f"{path}: {name!r} must be float32, got {found.dtype}")
    fields, tensor = file["fields"], file["tensor"]
    if fields.shape[2] != fields.shape[3] or fields.shape[2] < 2:
        raise DataFileError(f"{path}: 'fields' must have shape (N, channels, n, n), got {fields.shape}")
    if fields.shape[0] != tensor.shape[0]:
        raise DataFileError(f"{path}: 'fields' holds {fields.shape[0]} examples, 'tensor' {tensor.shape[0]}")
    return fields, tensor


def _names(path: Path, item: h5py.Dataset, attribute: str, default: tuple[str, ...]) -> tuple[str, ...]:
    if attribute not in item.attrs:
        return default
    names = _json(path, item.attrs[attribute], attribute)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataFileError(f"{path}: the attribute {attribute!r} must be a JSON list of names")
    return tuple(names)


def _metadata(path: Path, file: h5py.File) -> dict[str, Any]:
    if "pdefm" not in file.attrs:
        return {}
    metadata = _json(path, file.attrs["pdefm"], "pdefm")
    if not isinstance(metadata, dict):
        raise DataFileError(f"{path}: the attribute 'pdefm' must be a JSON object")
    return metadata


def _json(path: Path, text: Any, attribute: str) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise DataFileError(f"{path}: the attribute {attribute!r} must be JSON text") from None


def _is_complete(file: h5py.File) -> bool:
    mark = np.asarray(file.attrs.get("complete", 0))
    return mark.dtype.kind in "iubf" and bool(np.all(mark == 1))


def _rows(data: h5py.Dataset, wanted: np.ndarray) -> np.ndarray:
    """Read rows given in increasing order, a run of neighbours at a time."""
    rows = np.empty((len(wanted), *data.shape[1:]), dtype=np.float32)
    starts = np.flatnonzero(np.diff(wanted, prepend=wanted[:1] - 2) != 1)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which the caller reports
        for start, stop in zip(starts, [*starts[1:], len(wanted)], strict=True):
            rows[start:stop] = data[int(wanted[start]) : int(wanted[start]) + int(stop - start)]
    return rows


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _sync(path: Path) -> None:
    """Wait until a file or folder has reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> h5py.File:
    import h5py

    if not path.exists():
        raise DataFileError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        reason = _reason(error)
        if "truncated" in reason:
            raise DataFileError(f"{path}: is truncated: {reason}") from None
        if "signature" in reason:
            raise DataFileError(f"{path}: is no HDF5 file") from None
        raise DataFileError(f"{path}: cannot be opened: {reason}") from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Say which file it was when HDF5 fails on its content."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataFileError(f"{path}: cannot be read: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return one_line(text) or type(error).__name__
