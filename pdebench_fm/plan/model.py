"""A model to be scored: its name, its identity, and the user's own weights."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pdebench_fm.errors import RunError, SettingError, UsageError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import bind, call
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.registry.code import PREFIX, code_version

_LONGEST_NAME = 120  # characters of a variant's name


@dataclass(frozen=True)
class ModelSpec:
    """A model to be scored: the name users know it by, and what identifies it.

    Args:
        name: in records, tables and folders; see `variant_name`.
        entry: name in the registry.
        local: arguments that only say where files are; the fingerprint identifies these.
        changed: what the name says of the arguments.
    """

    name: str
    entry: str
    family: str
    version: str
    arguments: Mapping[str, Any]
    fingerprint: str = ""
    local: frozenset[str] = frozenset()
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lasting_arguments(self) -> dict[str, Any]:
        """The arguments that mean the same on every machine."""
        return {name: value for name, value in self.arguments.items() if name not in self.local}

    def describe(self) -> dict[str, Any]:
        """Return what a job's identity holds of the model."""
        fingerprint = {"fingerprint": self.fingerprint} if self.fingerprint else {}
        return {"family": self.family, "version": self.version, "arguments": self.lasting_arguments, **fingerprint}

    def in_run(self, precision: str, weights: str = "") -> ModelSpec:
        """Return the model by the name that it has in a run: precision and the user's weights set runs apart.

        Args:
            weights: SHA-256 of the user's weights, if any.
        """
        run = {"precision": precision} if precision != "float32" else {}
        run |= {"pretrained": weights[:8]} if weights else {}
        return replace(self, name=variant_name(self.entry, self.changed, run))

    def make(self, registry: Registry) -> OperatorModel:
        """Construct the model, without weights."""
        model: OperatorModel = call(registry.load("models", self.entry), self.arguments)
        return model


@dataclass(frozen=True)
class Weights:
    """The user's own pre-trained weights: they replace the pre-training jobs."""

    path: str
    sha256: str


def model_spec(registry: Registry, name: str, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """Resolve a model's name and the user's overrides to its complete arguments.

    Overrides that change something become part of the name, so that variants never share a folder or a row of a table.
    """
    entry = registry.get("models", name)
    if missing := entry.missing:
        advice = f"pip install '{entry.needs[missing]}'"
        raise UsageError(f"model {name}: it needs {missing}, which is not installed: {advice}")
    factory = registry.load("models", name)
    try:
        arguments = bind(factory, {**entry.arguments, **(overrides or {})})
        who = f"model {name!r} of plugin {registry.owner('models', name)}"
        fingerprint = call_plugin(who, lambda: call(factory, arguments).fingerprint())
    except SettingError as error:
        raise SettingError(f"model {name}: {error.setting}", error.message) from None
    changed = _changed(factory, entry.arguments, arguments) if overrides else {}
    local = frozenset(getattr(factory, "local_arguments", ())) if fingerprint else frozenset()
    for argument in local & changed.keys():
        changed[argument] = f"{Path(changed[argument]).name}-{fingerprint[:8]}"
    variant = variant_name(name, changed)
    return ModelSpec(variant, name, entry.family or name, entry.version, arguments, fingerprint, local, changed)


def variant_name(name: str, *settings: Mapping[str, Any]) -> str:
    """Return the name of a variant of a registered model, which is also a file name.

    Call it once with all settings: a name that is too long ends with a hash of them.

    >>> variant_name("unet", {"width": 8, "levels": 2})
    'unet,width=8,levels=2'
    """
    pairs = [pair for some in settings for pair in some.items()]
    values = [(k, v if isinstance(v, str) else json.dumps(v, separators=(",", ":"))) for k, v in pairs]
    text = ",".join([name, *(f"{key}={value}" for key, value in values)])
    safe = re.sub(r"[^\w.,=+\[\]-]", "_", text, flags=re.ASCII)
    if safe == text and len(safe) <= _LONGEST_NAME:
        return safe
    return f"{safe[:_LONGEST_NAME]},{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _changed(factory: Any, registered: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that differ from those that the entry has by itself."""
    plain = bind(factory, registered, complete=False)  # the entry may leave an argument to the user
    return {key: value for key, value in arguments.items() if key not in plain or plain[key] != value}


def entry_of(model: type[OperatorModel]) -> ModelEntry:
    """An entry for a class that is registered nowhere."""
    if not (inspect.isclass(model) and issubclass(model, OperatorModel)):
        raise UsageError(f"a model is a name, a ModelEntry or a subclass of OperatorModel, got {model!r}")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model.__name__).lower().strip("_")
    return ModelEntry(name, code_version(model), model, f"{model.__module__}:{model.__qualname__}")


def check_code(registry: Registry) -> None:
    """Check that this process has the code that the models of a run were versioned by."""
    for entry in registry.entries("models"):
        if entry.version.startswith(PREFIX) and code_version(registry.load("models", entry.name)) != entry.version:
            raise RunError(
                f"model {entry.name!r}: a worker process has other code than the run itself; "
                "its source was changed after it was imported, so start Python anew"
            )
