"""A model to be scored: its name, its identity, and the user's own weights."""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pdebench_fm.errors import SettingError, UsageError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import bind, call
from pdebench_fm.registry.calling import call_plugin


@dataclass(frozen=True)
class ModelSpec:
    """A model to be scored: the name users know it by, and what identifies it."""

    name: str
    family: str
    version: str
    arguments: Mapping[str, Any]
    fingerprint: str = ""

    def describe(self) -> dict[str, Any]:
        """Return what a job's identity holds of the model."""
        fingerprint = {"fingerprint": self.fingerprint} if self.fingerprint else {}
        return {"family": self.family, "version": self.version, "arguments": dict(self.arguments), **fingerprint}

    def make(self, registry: Registry) -> OperatorModel:
        """Construct the model, without weights."""
        model: OperatorModel = call(registry.load("models", self.name), self.arguments)
        return model


@dataclass(frozen=True)
class Weights:
    """The user's own pre-trained weights: they replace the pre-training jobs."""

    path: str
    sha256: str


def model_spec(registry: Registry, name: str, overrides: Mapping[str, Any] | None = None) -> ModelSpec:
    """Resolve a model's name and the user's overrides to its complete arguments.

    Raises:
        UnknownNameError: no such model.
        SettingError: an override has an unknown name or a wrong value.
        PluginError: the model's constructor raises something else.
    """
    entry = registry.get("models", name)
    factory = registry.load("models", name)
    arguments = bind(factory, {**entry.arguments, **(overrides or {})})
    try:
        who = f"model {name!r} of plugin {registry.owner('models', name)}"
        fingerprint = call_plugin(who, lambda: call(factory, arguments).fingerprint())
    except SettingError as error:
        raise SettingError(f"model {name}: {error.setting}", error.message) from None
    return ModelSpec(name, entry.family or name, entry.version, arguments, fingerprint)


def entry_of(model: type[OperatorModel]) -> ModelEntry:
    """An entry for a class that is registered nowhere."""
    if not (inspect.isclass(model) and issubclass(model, OperatorModel)):
        raise UsageError(f"a model is a name, a ModelEntry or a subclass of OperatorModel, got {model!r}")
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model.__name__).lower().strip("_")
    try:
        source = inspect.getsource(sys.modules[model.__module__])
    except (OSError, TypeError):
        raise UsageError(
            f"the source of {model.__name__} cannot be read, so that its results could not be told from those of older "
            "code: define it in a module, or pass a ModelEntry with a version"
        ) from None
    version = "source-" + hashlib.sha256(source.encode()).hexdigest()[:16]
    return ModelEntry(name, version, model, f"{model.__module__}:{model.__qualname__}")
