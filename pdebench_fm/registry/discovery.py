"""Discovery: every plugin is loaded on its own, so that a broken one takes nothing else with it.

pluggy's entry-point loader stops at the first plugin that raises and silently skips a second entry point of the same
name. Here each entry point is loaded inside a ``try``; what went wrong is kept, shown by ``pdefm plugins``, and raised
only where a suite needs what is missing.
"""

from __future__ import annotations

import importlib.metadata
import pickle
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, cast, get_args

import pluggy

from pdebench_fm._util.text import named, one_line, show
from pdebench_fm.errors import PLUGIN_ERRORS, PluginError, UnknownNameError
from pdebench_fm.hookspecs import (
    PROJECT,
    Entry,
    ExecutorEntry,
    Hooks,
    MetricEntry,
    ModelEntry,
    ProtocolEntry,
    SamplerEntry,
    SuiteEntry,
    SystemEntry,
)

Kind = Literal["systems", "samplers", "models", "protocols", "metrics", "executors", "suites"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ENTRY_TYPES: dict[Kind, type[Any]] = {
    "systems": SystemEntry,
    "samplers": SamplerEntry,
    "models": ModelEntry,
    "protocols": ProtocolEntry,
    "metrics": MetricEntry,
    "executors": ExecutorEntry,
    "suites": SuiteEntry,
}
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Plugin:
    """One entry point: who owns it, and why it could not be used where ``failure`` is not empty."""

    name: str
    module: str
    distribution: str
    failure: str = ""
    entries: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        """The entry point and the distribution it comes from."""
        return f"{self.name} ({self.distribution})" if self.distribution else self.name


class Registry:
    """Everything that plugins registered, by kind and name.

    Args:
        entry_points: what to load; those of the installed group ``pdebench_fm`` by default.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        if entry_points is None:
            entry_points = importlib.metadata.entry_points(group=PROJECT)
        self.plugins: list[Plugin] = []
        self._entries: dict[Kind, dict[str, Any]] = {kind: {} for kind in KINDS}
        self._owners: dict[tuple[Kind, str], str] = {}
        self._conflicts: dict[tuple[Kind, str], str] = {}
        for point in sorted(entry_points, key=lambda point: (point.name, point.value)):
            self._add(point)

    def names(self, kind: Kind) -> list[str]:
        """Names that can be used, sorted."""
        return sorted(self._entries[kind])

    def entries(self, kind: Kind) -> list[Any]:
        """Entries that can be used, sorted by name."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def get(self, kind: Kind, name: str) -> Any:
        """Return one entry.

        Raises:
            PluginError: two plugins claim the name.
            UnknownNameError: nobody registered it; names the nearest, and the plugins that failed to load.
        """
        if (kind, name) in self._conflicts:
            raise PluginError(self._conflicts[kind, name])
        if name not in self._entries[kind]:
            error = UnknownNameError(kind.removesuffix("s"), name, self._entries[kind])
            broken = [plugin for plugin in self.plugins if plugin.failure]
            if broken:
                error.args = (
                    f"{error}; could not be loaded: {', '.join(p.owner for p in broken)} (see pdefm plugins)",
                )
            raise error
        return self._entries[kind][name]

    def load(self, kind: Kind, name: str) -> Callable[..., Any]:
        """Import and return the factory of one entry.

        Raises:
            PluginError: the import failed; names the owner and the reason.
        """
        entry: Entry = self.get(kind, name)
        try:
            return entry.load()
        except PLUGIN_ERRORS as error:
            owner = self._owners[kind, name]
            raise PluginError(f"{kind.removesuffix('s')} {name!r} of plugin {owner}: {_reason(error)}") from error

    def owner(self, kind: Kind, name: str) -> str:
        """Who registered an entry."""
        return self._owners[kind, name]

    def with_model(self, entry: ModelEntry) -> Registry:
        """Return a registry that has one more model, for a class that no plugin registers.

        Raises:
            PluginError: the name is taken, or the identity.
        """
        _check_entry("models", entry)
        if ("models", entry.name) in self._owners:
            raise PluginError(f"model {entry.name!r} is already registered by {self._owners['models', entry.name]}")
        wider = Registry([])
        wider.plugins = list(self.plugins)
        wider._entries = {kind: dict(entries) for kind, entries in self._entries.items()}
        wider._owners = dict(self._owners)
        wider._conflicts = dict(self._conflicts)
        clash = wider._register("models", entry, "the calling program")
        if clash:
            raise PluginError(clash)
        return wider

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process.

        Raises:
            PluginError: a model that the calling program added cannot be.
        """
        for entry in self._entries["models"].values():
            _check_that_it_travels("models", entry)
        return vars(self)

    def _add(self, point: importlib.metadata.EntryPoint) -> None:
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else ""
        plugin = Plugin(point.name, point.value, distribution)
        others = [other for other in self.plugins if other.name == point.name]
        try:
            if others:
                raise PluginError(f"the entry point name {point.name!r} is already taken by {others[0].owner}")
            found = _collect(point)
        except PLUGIN_ERRORS as error:  # isolation: whatever one plugin raises must not reach the others
            self.plugins.append(Plugin(point.name, point.value, distribution, failure=_reason(error)))
            return
        clashes: list[str] = []
        for kind, entries in found.items():
            for entry in entries:
                clash = self._register(kind, entry, plugin.owner)
                if clash:
                    clashes.append(clash)
        kept = {kind: tuple(entry.name for entry in entries) for kind, entries in found.items() if entries}
        self.plugins.append(Plugin(point.name, point.value, distribution, "; ".join(clashes), kept))

    def _register(self, kind: Kind, entry: Any, owner: str) -> str:
        """Add an entry; return what is wrong where another has the name or the identity: then neither may be used."""
        key = (kind, entry.name)
        if key in self._owners:
            text = f"{kind.removesuffix('s')} {entry.name!r} is registered twice: by {self._owners[key]} and by {owner}"
            self._conflicts[key] = text
            self._entries[kind].pop(entry.name, None)
            return text
        self._owners[key] = owner
        other = self._namesake(entry) if kind == "models" else None
        if other is not None:
            text = (
                f"models {other.name!r} of {self._owners[kind, other.name]} and {entry.name!r} of {owner} have one "
                f"family, version and arguments, and two factories: one's results would be taken for the other's"
            )
            for name in (other.name, entry.name):
                self._conflicts[kind, name] = text
                self._entries[kind].pop(name, None)
            return text
        self._entries[kind][entry.name] = entry
        return ""

    def _namesake(self, entry: ModelEntry) -> ModelEntry | None:
        """A model of the same family, version and arguments, and so of the same jobs, that something else makes."""
        for other in self._entries["models"].values():
            kin = (_family(other), other.version) == (_family(entry), entry.version)
            if not kin or other.factory == entry.factory:
                continue
            from pdebench_fm.registry.arguments import bind  # not above: it takes a while, and this is rare

            with suppress(*PLUGIN_ERRORS):  # what cannot be imported or called cannot be scored
                one, two = other.load(), entry.load()
                if one is not two and bind(one, other.arguments) == bind(two, entry.arguments):
                    return cast(ModelEntry, other)
        return None


@cache
def registry() -> Registry:
    """The registry of everything installed, made on first use."""
    return Registry()


def _collect(point: importlib.metadata.EntryPoint) -> dict[Kind, list[Any]]:
    """Load one entry point alone and call its hooks."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    manager.register(point.load(), name=point.name)
    manager.check_pending()  # a misspelt hook would otherwise register silently
    found: dict[Kind, list[Any]] = {}
    for kind in KINDS:
        results = getattr(manager.hook, f"pdefm_{kind}")()
        found[kind] = [entry for result in results for entry in result]
        for entry in found[kind]:
            _check_entry(kind, entry)
            _check_that_it_travels(kind, entry)
        names = [entry.name for entry in found[kind]]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise PluginError(f"pdefm_{kind} returns {', '.join(map(repr, repeated))} more than once")
    if not any(found.values()):
        raise PluginError(f"implements none of the hooks {', '.join(f'pdefm_{kind}' for kind in KINDS)}")
    return found


def _check_that_it_travels(kind: Kind, entry: Any) -> None:
    """Worker processes are sent the whole registry: what cannot be would end runs that have no need of it."""
    try:
        pickle.dumps(entry)
    except Exception as error:  # pickle's own, or whatever an object raises that is pickled
        raise PluginError(
            f"pdefm_{kind}: {entry.name!r} cannot be sent to another process: name its factory as 'module:name', or "
            f"define it at the top of a module ({one_line(error)})"
        ) from error


def _check_entry(kind: Kind, entry: Any) -> None:
    expected = _ENTRY_TYPES[kind]
    if not isinstance(entry, expected):
        raise PluginError(f"pdefm_{kind} must return {expected.__name__}, got {type(entry).__name__}")
    name: str = entry.name
    if not _NAME.fullmatch(name):
        raise PluginError(f"pdefm_{kind}: a name is lower-case letters, digits, '-', '_', '.', got {name!r}")
    if isinstance(entry, Entry) and not _is_line(entry.version):
        raise PluginError(f'pdefm_{kind}: the version of {name!r} must be text such as "1", got {show(entry.version)}')
    if (kind, name) == ("protocols", "pretraining"):
        raise PluginError(f"pdefm_{kind}: {name!r} is what records call a pre-training; no protocol may have the name")


def _family(entry: ModelEntry) -> str:
    return entry.family or entry.name


def _is_line(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip()) and text.isprintable()


def _reason(error: BaseException) -> str:
    return one_line(error) if isinstance(error, PluginError) else named(error)
