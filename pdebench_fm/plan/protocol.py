"""A transfer protocol in a suite: the name and arguments it was given, and what identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pdebench_fm._util.text import show
from pdebench_fm.errors import UsageError
from pdebench_fm.interfaces import TransferProtocol
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import bind, call

_LONGEST_LABEL = 200
"""Most characters of an arm's name, which is in every record."""


@dataclass(frozen=True)
class ProtocolSpec:
    """One arm of a suite.

    Args:
        arguments: all arguments of its constructor.
        given: those that the suite gave; they become part of the arm's name.
    """

    name: str
    version: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The arm's name in records and tables, e.g. ``lora(rank=8)``."""
        shown = ",".join(f"{name}={value}" for name, value in self.given.items())
        return f"{self.name}({shown})" if shown else self.name

    def describe(self) -> dict[str, Any]:
        """Return what a job's identity holds of the protocol."""
        arguments = {"arguments": dict(self.arguments)} if self.arguments else {}
        return {"name": self.name, "version": self.version, **arguments}

    def make(self, registry: Registry) -> TransferProtocol:
        """Construct the protocol."""
        protocol: TransferProtocol = call(registry.load("protocols", self.name), self.arguments)
        return protocol


def protocol_spec(registry: Registry, name: str, given: Mapping[str, Any]) -> ProtocolSpec:
    """Resolve a protocol's name and the suite's arguments to its complete arguments."""
    entry = registry.get("protocols", name)
    arguments = bind(registry.load("protocols", name), {**entry.arguments, **given})
    spec = ProtocolSpec(name, entry.version, arguments, dict(given))
    if len(spec.label) > _LONGEST_LABEL or not spec.label.isprintable():
        raise UsageError(
            f"protocol {name}: with its arguments its name must be one line of at most {_LONGEST_LABEL} characters, "
            f"got {show(spec.label)}"
        )
    return spec
