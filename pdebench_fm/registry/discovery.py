"""Finds installed plugins. Each one loads separately, so a broken plugin affects no other.

pluggy's own loader stops at the first plugin that raises. Here the failure is recorded, shown by ``pdefm plugins``,
and raised only when a suite needs what is missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, get_args

import pluggy

from pdebench_fm._util.environment import PLUGINS
from pdebench_fm._util.text import show
from pdebench_fm.errors import PLUGIN_ERRORS, PluginError, UnknownNameError, UsageError, suggestion
from pdebench_fm.hookspecs import (
    PROJECT,
    Entry,
    ExecutorEntry,
    Hooks,
    MetricEntry,
    ModelEntry,
    ObjectiveEntry,
    ProtocolEntry,
    SamplerEntry,
    SolverEntry,
    SuiteEntry,
    SystemEntry,
)
from pdebench_fm.registry.calling import located
from pdebench_fm.registry.loading import to_standard_error

Kind = Literal["systems", "samplers", "models", "protocols", "objectives", "metrics", "solvers", "executors", "suites"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ENTRY_TYPES: dict[Kind, type[Any]] = {
    "systems": SystemEntry,
    "samplers": SamplerEntry,
    "models": ModelEntry,
    "protocols": ProtocolEntry,
    "objectives": ObjectiveEntry,
    "metrics": MetricEntry,
    "solvers": SolverEntry,
    "executors": ExecutorEntry,
    "suites": SuiteEntry,
}
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
"""What names of entries look like."""


@dataclass(frozen=True)
class Plugin:
    """One entry point and what it registered.

    Args:
        failure: one line saying why it cannot be used, or in part; empty if it can.
    """

    name: str
    module: str
    distribution: str
    failure: str = ""
    traceback: str = ""
    entries: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The entry point and its distribution."""
        return f"{self.name} ({self.distribution})" if self.distribution else self.name


class Registry:
    """Everything that plugins registered, by kind and name.

    Args:
        entry_points: what may be loaded; by default the installed group ``pdebench_fm``.
        selection: which of them are loaded, as PDEFM_PLUGINS says it: names with commas between them, or names after
            ``-`` that are left out. All if empty.
    """

    def __init__(
        self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None, selection: str = ""
    ) -> None:
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=PROJECT)
        points = list(entry_points)
        entry_points = _selected(points, selection)
        self.left_out = sorted({point.name for point in points} - {point.name for point in entry_points})
        self.plugins: list[Plugin] = []
        self._entries: dict[Kind, dict[str, Any]] = {kind: {} for kind in KINDS}
        self._owners: dict[tuple[Kind, str], str] = {}
        self._conflicts: dict[tuple[Kind, str], str] = {}
        for point in sorted(entry_points, key=lambda point: (point.name, point.value)):
            self.plugins.append(self._add(point))

    def names(self, kind: Kind) -> list[str]:
        """Names that can be used, sorted."""
        return sorted(self._entries[kind])

    def entries(self, kind: Kind) -> list[Any]:
        """Entries that can be used, sorted by name."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def get(self, kind: Kind, name: str) -> Any:
        """Return one entry; if there is none, the error names the plugins that failed to load."""
        if (kind, name) in self._conflicts:
            raise PluginError(self._conflicts[kind, name])
        if name not in self._entries[kind]:
            raise self._unknown(kind, name)
        return self._entries[kind][name]

    def load(self, kind: Kind, name: str, field: str = "factory") -> Callable[..., Any]:
        """Import and return the factory of one entry, or what another field of it names."""
        entry: Entry = self.get(kind, name)
        try:
            with to_standard_error():
                return entry.load(field)
        except PLUGIN_ERRORS as error:
            raise PluginError(
                f"{singular(kind)} {name!r} of plugin {self.owner(kind, name)}: {located(error)}"
            ) from error

    def owner(self, kind: Kind, name: str) -> str:
        """Return who registered an entry."""
        return self._owners[kind, name]

    def versions(self) -> dict[str, str]:
        """Return the package and version of each plugin that was loaded, or that failed while it was."""
        found: dict[str, set[str]] = {}
        for plugin in self.plugins:
            found.setdefault(plugin.name, set()).add(plugin.distribution or plugin.module)
        return {name: ", ".join(sorted(packages)) for name, packages in found.items()}

    def with_model(self, entry: ModelEntry) -> Registry:
        """Return a registry with one more model, for a class that no plugin registers."""
        if ("models", entry.name) in self._owners:
            raise PluginError(f"model {entry.name!r} is already registered by {self._owners['models', entry.name]}")
        return self.with_entry("models", entry)

    def with_entry(self, kind: Kind, entry: Any) -> Registry:
        """Return a registry with one more entry. It replaces an entry of the same name."""
        _check_entry(kind, entry)
        wider = Registry([])
        wider.plugins = list(self.plugins)
        wider.left_out = self.left_out
        wider._entries = {**self._entries, kind: {**self._entries[kind], entry.name: entry}}
        wider._owners = {**self._owners, (kind, entry.name): "the calling program"}
        wider._conflicts = {key: text for key, text in self._conflicts.items() if key != (kind, entry.name)}
        return wider

    def _add(self, point: importlib.metadata.EntryPoint) -> Plugin:
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else ""
        plugin = Plugin(point.name, point.value, distribution)
        try:
            found = _collect(point)
        except PLUGIN_ERRORS as error:
            return Plugin(point.name, point.value, distribution, located(error), traceback.format_exc())
        conflicts = [self._register(kind, entry, plugin.owner) for kind, entries in found.items() for entry in entries]
        kept = {kind: tuple(entry.name for entry in entries) for kind, entries in found.items() if entries}
        return Plugin(point.name, point.value, distribution, "; ".join(filter(None, conflicts)), entries=kept)

    def _register(self, kind: Kind, entry: Any, owner: str) -> str:
        """Add an entry. If its name is taken, neither entry can be used; returns that conflict."""
        key = (kind, entry.name)
        if key not in self._owners:
            self._owners[key] = owner
            self._entries[kind][entry.name] = entry
            return ""
        text = f"{singular(kind)} {entry.name!r} is registered twice: by {self._owners[key]} and by {owner}"
        self._conflicts[key] = text
        self._entries[kind].pop(entry.name, None)
        return text

    def _unknown(self, kind: Kind, name: str) -> UnknownNameError:
        error = UnknownNameError(singular(kind), name, self._entries[kind])
        broken = [plugin for plugin in self.plugins if plugin.failure]
        if broken:
            names = ", ".join(plugin.owner for plugin in broken)
            error.args = (f"{error}; could not be loaded: {names} (see pdefm plugins)",)
            for text in (plugin.traceback for plugin in broken if plugin.traceback):
                error.add_note(text)
        if self.left_out:
            error.args = (f"{error}; left out: {', '.join(self.left_out)} (--no-plugin or {PLUGINS})",)
        return error


def registry() -> Registry:
    """Return the registry of everything installed, or of what PDEFM_PLUGINS selects, made on first use."""
    return installed(os.environ.get(PLUGINS, ""))


@cache
def installed(selection: str = "") -> Registry:
    """Return the registry of some plugins, see `Registry`; made once a process."""
    return Registry(selection=selection)


def _selected(points: list[importlib.metadata.EntryPoint], selection: str) -> list[importlib.metadata.EntryPoint]:
    """Return the entry points that are to be loaded, see `Registry`."""
    said = [name for part in selection.split(",") if (name := part.strip())]
    without = {name[1:] for name in said if name.startswith("-")}
    only = {name for name in said if not name.startswith("-")}
    known = {point.name for point in points}
    for name in sorted(without | only):
        if name not in known:
            raise UsageError(f"{PLUGINS} or --no-plugin: unknown plugin {name!r}{suggestion(name, known)}")
    return [point for point in points if point.name not in without and (not only or point.name in only)]


def singular(kind: Kind) -> str:
    """Return the name of one entry of a kind.

    >>> singular("models")
    'model'
    """
    return kind.removesuffix("s")


def _collect(point: importlib.metadata.EntryPoint) -> dict[Kind, list[Any]]:
    """Load one entry point and call its hooks. What it prints goes to standard error."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    with to_standard_error():
        manager.register(point.load(), name=point.name)
        manager.check_pending()  # a misspelt hook would otherwise register silently
        results = {kind: getattr(manager.hook, f"pdefm_{kind}")() for kind in KINDS}
        found = {kind: [entry for result in results[kind] for entry in result] for kind in KINDS}
    for kind, entries in found.items():
        for entry in entries:
            _check_entry(kind, entry)
    if not any(found.values()):
        raise PluginError(f"implements none of the hooks {', '.join(f'pdefm_{kind}' for kind in KINDS)}")
    return found


def _check_entry(kind: Kind, entry: Any) -> None:
    expected = _ENTRY_TYPES[kind]
    if not isinstance(entry, expected):
        raise PluginError(f"pdefm_{kind} must return {expected.__name__}, got {type(entry).__name__}")
    name: str = entry.name
    if not NAME.fullmatch(name):
        raise PluginError(f"pdefm_{kind}: a name is lower-case letters, digits, '-', '_', '.', got {name!r}")
    if isinstance(entry, Entry) and not (isinstance(entry.version, str) and entry.version.strip()):
        raise PluginError(f'pdefm_{kind}: the version of {name!r} must be text such as "1", got {show(entry.version)}')
    if (kind, name) == ("protocols", "pretraining"):
        raise PluginError(f"pdefm_{kind}: {name!r} is what records call a pre-training; choose another name")
