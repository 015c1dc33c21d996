"""Reads released checkpoints: tensors and plain settings only, nothing in a file is executed."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeVar

import torch
from ruamel.yaml import YAML, YAMLError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pdebench_fm.errors import DataFileError, suggestion

Network = TypeVar("Network", bound=nn.Module)

SIGNATURES = {
    "Poseidon": "embeddings.patch_embeddings.projection.weight",
    "DPOT": "time_agg_layer.w",
    "MORPH": "pos_encoding.pos_embedding",
    "MPP": "space_bag.weight",
    "PDE-Transformer (mixed channels)": "y_embedder_0.embedding_table.weight",
    "PDE-Transformer (separate channels)": "channel_type_embedder_0.embedding_table.weight",
}
"""A tensor of each family that no other family has."""

_SHARD = re.compile(r"-\d+-of-\d+\.")
_WEIGHTS = ("model", "model_state", "model_state_dict", "state_dict")
_ANY = ("*.safetensors", "*.safetensors.index.json", "*.pth", "*.pt", "*.bin", "*.ckpt", "*.tar")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int32, torch.int64)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one released network, and the settings that came with them.

    Args:
        file: where the tensors come from.
        tensors: by name, without the prefixes of DataParallel or diffusers.
        settings: what a configuration beside the tensors or inside the file says.
        settings_file: where ``settings`` come from.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_file: Path | None = None
    _sources: list[str] = field(default_factory=list, init=False)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            DataFileError: it is missing, or has another number of dimensions.
        """
        if name not in self.tensors:
            raise DataFileError(f"{self.file}: tensor {name!r} is missing")
        self._sources.append(name)
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise DataFileError(f"{self.file}: tensor {name!r} must have {dimensions} dimensions, got {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """Return how many numbers 0, 1, … follow a prefix, e.g. ``blocks.``; gaps show up as missing tensors."""
        found = {int(match[1]) for name in self.tensors if (match := re.match(re.escape(pattern) + r"(\d+)\.", name))}
        return max(found, default=-1) + 1

    def setting(self, name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
        """Return a setting; ``default`` if it is absent or null.

        Raises:
            DataFileError: it is of another type, or is missing and has no default.
        """
        where = self.settings_file or self.file
        if self.settings.get(name) is None and default is not ...:
            return default
        if name not in self.settings:
            raise DataFileError(f"{where}: {name!r} is missing{suggestion(name, self.settings)}")
        value = self.settings[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            wanted = kind.__name__ if isinstance(kind, type) else " or ".join(each.__name__ for each in kind)
            raise DataFileError(f"{where}: {name!r} must be {wanted}, got {value!r}")
        return value

    def whole(self, name: str, default: Any = ...) -> int:
        """Return a setting that is a positive whole number; ``default`` if it is absent or null.

        Raises:
            DataFileError: it is something else, or is missing and has no default.
        """
        value: int = self.setting(name, int, default)
        if value < 1:
            raise DataFileError(f"{self.settings_file or self.file}: {name!r} must be at least 1, got {value}")
        return value

    def demand(self, **values: Any) -> None:
        """Refuse settings of variants that are not built here; a setting that is absent has the published value."""
        for name, value in values.items():
            if name in self.settings and self.settings[name] != value:
                where, got = self.settings_file or self.file, self.settings[name]
                raise DataFileError(f"{where}: {name} = {got!r} is not supported, only {value!r}")

    def fill(self, family: str, build: Callable[[], Network], **told: Any) -> Network:
        """Build a network and give it the tensors.

        Args:
            family: for messages.
            build: makes the network.
            told: sizes of the network that the settings may state too.

        Raises:
            DataFileError: a tensor is missing, surplus, of another shape or type, or not finite; or the settings belong
                to other tensors.
        """
        try:
            with torch.random.fork_rng(devices=[]):  # the random weights are overwritten at once
                network = build()
        except (ValueError, ZeroDivisionError, RuntimeError, AssertionError) as error:
            where = ", ".join(dict.fromkeys(map(repr, self._sources)))
            raise DataFileError(
                f"{self.file}: its sizes do not make a {family} network: {error}; they are those of {where}"
            ) from None
        expected = network.state_dict()
        self._compare(family, expected)
        self._agree(told)
        parameters = {name for name, _ in network.named_parameters()}
        for name, tensor in expected.items():
            self._check(name, tensor, table=name not in parameters)
        network.load_state_dict(dict(self.tensors))
        return network.eval()

    def _agree(self, sizes: Mapping[str, Any]) -> None:
        for name, size in sizes.items():
            told = self.settings.get(name, size)
            if told != size:
                where = self.settings_file or self.file
                raise DataFileError(f"{where}: {name} is {told!r}, but the tensors of {self.file.name} have {size!r}")

    def _check(self, name: str, expected: Tensor, *, table: bool) -> None:
        """Refuse values that loading would change, or that are no numbers; a table must be the one that is built."""
        tensor, fault = self.tensors[name], ""
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        fits = tensor.dtype in (_FLOATS if expected.is_floating_point() else _INTEGERS)
        if not plain or not fits:
            what = "" if plain else "quantized " if tensor.is_quantized else f"{tensor.layout} on {tensor.device} "
            fault = f"must be dense numbers such as {expected.dtype}, got {what}{tensor.dtype}"
        elif not bool(torch.isfinite(tensor.to(expected.dtype)).all()):
            fault = "has values that are not finite"
        elif table and not torch.allclose(tensor.double(), expected.double(), atol=1e-2):
            fault = "is not the table of positions that belongs to the window size"
        if fault:
            raise DataFileError(f"{self.file}: tensor {name!r} {fault}")

    def _compare(self, family: str, expected: Mapping[str, Tensor]) -> None:
        for what, names in (
            ("is missing", [name for name in expected if name not in self.tensors]),
            (f"does not belong to {family}", [name for name in self.tensors if name not in expected]),
        ):
            if names:
                more = f" (and {len(names) - 1} more)" if names[1:] else ""
                raise DataFileError(f"{self.file}: tensor {names[0]!r} {what}{more}")
        for name, tensor in expected.items():
            if tensor.shape != self.tensors[name].shape:
                wanted, got = list(tensor.shape), list(self.tensors[name].shape)
                fitting = self._fitting(name, {a for a, b in zip(wanted, got, strict=False) if a != b})
                raise DataFileError(f"{self.file}: tensor {name!r} must have shape {wanted}, got {got}{fitting}")

    def _fitting(self, name: str, sizes: set[int]) -> str:
        """Name the tensor that the size of another was most likely read from: either may be the wrong one."""

        def likely(source: str) -> tuple[float, bool]:
            alike = SequenceMatcher(None, source.split("."), name.split(".")).ratio()
            return alike, bool(sizes & set(self.tensors[source].shape))

        source = max((each for each in self._sources if each != name), key=likely, default="")
        return f", to fit {source!r}" if source else ""


def locate(path: Path | str, *patterns: str) -> Path:
    """Return the file that holds the tensors: ``path`` itself, or the one in that folder that fits a pattern.

    Patterns are tried in order, each in the folder and then in its subfolders.

    Raises:
        DataFileError: there is none, or more than one.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataFileError(f"{path}: no such file or folder")
    snapshots = sorted(path.glob("snapshots/*/"))  # of the hub's cache
    if len(snapshots) > 1:
        names = ", ".join(each.name for each in snapshots)
        raise DataFileError(f"{path}: has several snapshots ({names}); name one of them")
    path = snapshots[0] if snapshots else path
    below = sorted(child for child in path.iterdir() if child.is_dir())
    for pattern, folders in itertools.product((*patterns, *_ANY), ([path], below)):
        found = sorted(file for folder in folders for file in folder.glob(pattern) if _may_hold_tensors(file))
        if len(found) > 1 and all(_SHARD.search(file.name) for file in found):
            indices = list(found[0].parent.glob("*.index.json"))
            if len(indices) == 1:
                return indices[0]
            stem = found[0].name.partition("-")[0]
            raise DataFileError(f"{found[0].parent}: has shards of weights but not their index, {stem}*.index.json")
        if len(found) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in found)
            raise DataFileError(f"{path}: has several checkpoints ({names}); name one of them")
        if found:
            return found[0]
    raise DataFileError(f"{path}: has no checkpoint, expected {' or '.join(patterns)}")


def _may_hold_tensors(file: Path) -> bool:
    settings = file.suffix in (".yaml", ".yml", ".json", ".md", ".txt") and not file.name.endswith(".index.json")
    return file.is_file() and not settings


def read_checkpoint(file: Path, family: str, settings_file: Path | None = None) -> Checkpoint:
    """Read the tensors of ``file`` and the settings beside or inside it.

    Raises:
        DataFileError: the file is damaged, holds more than tensors, or is of another family.
    """
    content, signature = _read(file), SIGNATURES[family]
    nested = _weights(file, content, signature)
    prefix = next((name[: -len(signature)] for name in nested if f".{name}".endswith(f".{signature}")), "")
    tensors: dict[str, Tensor] = {}
    for name, value in nested.items():
        if isinstance(value, Tensor):
            bare = name.removeprefix(prefix).removeprefix("module.").removeprefix("model.")
            if bare in tensors:
                raise DataFileError(f"{file}: tensor {bare!r} is there with and without the prefix of {name!r}")
            tensors[bare] = value
    if not tensors:
        raise DataFileError(f"{file}: has no tensors, expected those of {family}")
    if signature not in tensors:
        other = next((each for each, name in SIGNATURES.items() if name in tensors), None)
        if other:
            raise DataFileError(f"{file}: is a checkpoint of {other}, not of {family}")
        if not any(name.split(".")[0] == signature.split(".")[0] for name in tensors):
            raise DataFileError(f"{file}: is no checkpoint of {family}: tensor {signature!r} is missing")
    arguments = content.get("args")
    settings = vars(arguments) if isinstance(arguments, argparse.Namespace) else arguments
    if not isinstance(settings, Mapping):
        settings = {}
    if settings_file is not None:
        settings = _read_settings(settings_file)
    return Checkpoint(file, tensors, settings, settings_file)


def _weights(file: Path, content: Mapping[str, Any], signature: str) -> Mapping[str, Any]:
    """Return the tensors by name: those under a key that training codes use, or under the only one that has them."""
    parts = {key: _named(value) for key, value in content.items() if isinstance(value, Mapping)}
    known = [key for key in _WEIGHTS if key in parts]
    fitting = [key for key, part in parts.items() if any(f".{name}".endswith(f".{signature}") for name in part)]
    if known or not fitting:
        return parts[known[0]] if known else _named(content)
    if fitting[1:]:
        raise DataFileError(f"{file}: has several sets of weights ({', '.join(map(repr, fitting))})")
    return parts[fitting[0]]


def _named(part: Mapping[Any, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in part.items() if isinstance(name, str)}


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file, or of the files that an index of shards names."""
    digest = hashlib.sha256()
    for file in files_of(Path(path)):
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def files_of(file: Path) -> list[Path]:
    """Return a file of weights, or an index with the shards that it names.

    Raises:
        DataFileError: the index is damaged, or a shard is missing.
    """
    if not file.name.endswith(".index.json"):
        return [file]
    shards = [file.parent / name for name in sorted(set(_shards(file).values()))]
    for shard in shards:
        if not shard.is_file():
            raise DataFileError(f"{file}: names {shard.name!r}, which is not there")
    return [file, *shards]


def _read(file: Path) -> Mapping[str, Any]:
    if file.name.endswith(".index.json"):
        shards, tensors = _shards(file), dict[str, Any]()
        for shard in files_of(file)[1:]:
            content = _read(shard)
            for name in (*content, *(name for name, place in shards.items() if place == shard.name)):
                if name not in content or shards.get(name) != shard.name:
                    where = "lacks" if name not in content else "has"
                    raise DataFileError(f"{shard}: {where} tensor {name!r}, unlike {file.name} says")
            tensors.update(content)
        return tensors
    try:
        if not file.stat().st_size:
            raise DataFileError(f"{file}: is empty")
        if file.suffix == ".safetensors" or _starts_as_safetensors(file):
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols: what cannot be read is refused
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except OSError as error:
        raise DataFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL|Unsupported class) ([\w.]+)", str(error))
        what = f"it holds more than tensors ({found[1]})" if found else "it is damaged or no file of torch.save"
        raise DataFileError(f"{file}: refused, {what}; nothing in a checkpoint is executed") from None
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        KeyError,
        ValueError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
        reason = str(error).splitlines()[0].partition(". ")[0] if str(error) else type(error).__name__
        raise DataFileError(f"{file}: truncated or damaged: {reason}") from None
    if not isinstance(content, Mapping):
        raise DataFileError(f"{file}: must hold a mapping of tensors, got {type(content).__name__}")
    return content


def _starts_as_safetensors(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _shards(index: Path) -> Mapping[str, str]:
    shards = _read_settings(index).get("weight_map")
    if not isinstance(shards, Mapping) or not shards or not all(map(_is_shard, shards.values())):
        raise DataFileError(f"{index}: 'weight_map' must name files of the same folder, one for each tensor")
    return shards


def _is_shard(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and not name.endswith(".index.json")


def _read_settings(file: Path) -> Mapping[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        settings = json.loads(text) if file.suffix == ".json" else YAML(typ="safe", pure=True).load(text)
    except OSError as error:
        raise DataFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError, YAMLError) as error:
        raise DataFileError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(settings, Mapping):
        raise DataFileError(f"{file}: must hold a mapping of settings")
    return settings
