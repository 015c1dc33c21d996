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

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            DataFileError: it is missing, or has another number of dimensions.
        """
        if name not in self.tensors:
            raise DataFileError(f"{self.file}: tensor {name!r} is missing")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise DataFileError(f"{self.file}: tensor {name!r} must have {dimensions} dimensions, got {list(shape)}")
        return shape

    def count(self, pattern: str) -> int:
        """Return how many numbers 0, 1, … follow a prefix, e.g. ``blocks.``; gaps show up as missing tensors."""
        found = {int(match[1]) for name in self.tensors if (match := re.match(re.escape(pattern) + r"(\d+)\.", name))}
        return max(found, default=-1) + 1

    def setting(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """Return a setting.

        Raises:
            DataFileError: it is missing or of another type.
        """
        where = self.settings_file or self.file
        if name not in self.settings:
            raise DataFileError(f"{where}: {name!r} is missing{suggestion(name, self.settings)}")
        value = self.settings[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            wanted = kind.__name__ if isinstance(kind, type) else " or ".join(each.__name__ for each in kind)
            raise DataFileError(f"{where}: {name!r} must be {wanted}, got {value!r}")
        return value

    def demand(self, **values: Any) -> None:
        """Refuse settings of variants that are not built here; a setting that is absent has the published value."""
        for name, value in values.items():
            if name in self.settings and self.settings[name] != value:
                where, got = self.settings_file or self.file, self.settings[name]
                raise DataFileError(f"{where}: {name} = {got!r} is not supported, only {value!r}")

    def fill(self, family: str, build: Callable[[], Network]) -> Network:
        """Build a network and give it the tensors.

        Raises:
            DataFileError: a tensor is missing, surplus, of another shape, or not finite.
        """
        try:
            with torch.random.fork_rng(devices=[]):  # the random weights are overwritten at once
                network = build()
        except (ValueError, ZeroDivisionError, RuntimeError, AssertionError) as error:
            raise DataFileError(f"{self.file}: its sizes do not make a {family} network: {error}") from None
        expected = network.state_dict()
        self._compare(family, expected)
        for name, tensor in self.tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise DataFileError(f"{self.file}: tensor {name!r} has values that are not finite")
        network.load_state_dict(dict(self.tensors))
        return network.eval()

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
                raise DataFileError(f"{self.file}: tensor {name!r} must have shape {wanted}, got {got}")


def locate(path: Path | str, *patterns: str) -> Path:
    """Return the file that holds the tensors: ``path`` itself, or the one in that folder that fits a pattern.

    Patterns are tried in order, each in the folder and then in its subfolders.

    Raises:
        DataFileError: there is none, or more than one.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataFileError(f"{path}: no such file or folder")
    below = sorted(child for child in path.iterdir() if child.is_dir())
    for pattern, folders in itertools.product(patterns, ([path], below)):
        found = sorted(file for folder in folders for file in folder.glob(pattern) if _may_hold_tensors(file))
        if len(found) > 1 and all(_SHARD.search(file.name) for file in found):
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
    content = _read(file)
    nested = next((content[key] for key in _WEIGHTS if isinstance(content.get(key), Mapping)), content)
    tensors: dict[str, Tensor] = {}
    for name, value in nested.items():
        if isinstance(name, str) and isinstance(value, Tensor):
            bare = name.removeprefix("module.").removeprefix("model.")
            if bare in tensors:
                raise DataFileError(f"{file}: tensor {bare!r} is there with and without the prefix of {name!r}")
            tensors[bare] = value
    if not tensors:
        raise DataFileError(f"{file}: has no tensors, expected those of {family}")
    if SIGNATURES[family] not in tensors:
        other = next((each for each, name in SIGNATURES.items() if name in tensors), None)
        if other:
            raise DataFileError(f"{file}: is a checkpoint of {other}, not of {family}")
        if not any(name.split(".")[0] == SIGNATURES[family].split(".")[0] for name in tensors):
            raise DataFileError(f"{file}: is no checkpoint of {family}: tensor {SIGNATURES[family]!r} is missing")
    arguments = content.get("args")
    settings = vars(arguments) if isinstance(arguments, argparse.Namespace) else {}
    if settings_file is not None:
        settings = _read_settings(settings_file)
    return Checkpoint(file, tensors, settings, settings_file)


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
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols: what cannot be read is refused
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except OSError as error:
        raise DataFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class) ([\w.]+)", str(error))
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataFileError(f"{file}: truncated or damaged: {reason}") from None
    if not isinstance(content, Mapping):
        raise DataFileError(f"{file}: must hold a mapping of tensors, got {type(content).__name__}")
    return content


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
    except (OSError, ValueError, YAMLError) as error:
        raise DataFileError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(settings, Mapping):
        raise DataFileError(f"{file}: must hold a mapping of settings")
    return settings
