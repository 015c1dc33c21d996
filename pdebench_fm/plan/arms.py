"""The arms of a suite: what each of its transfer protocols, which may be somebody else's, says of itself, checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

from pdebench_fm._util.text import show
from pdebench_fm.errors import PluginError
from pdebench_fm.interfaces import OperatorModel, TransferProtocol
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import call_plugin, refusal_reason

Start = Literal["pretrained", "initialised"]


@dataclass(frozen=True)
class Arm:
    """A transfer protocol on the sizes of one profile.

    Args:
        name: of the protocol.
        version: of the protocol.
        starts_from: see `TransferProtocol.starts_from`.
        sizes: the N at which it is scored, rising.
        protocol: made once.
    """

    name: str
    version: str
    starts_from: Start
    sizes: tuple[int, ...]
    protocol: TransferProtocol

    def cells(self, seeds: int) -> Iterator[tuple[int, int]]:
        """Every (examples, seed) of the arm on one task."""
        for examples in self.sizes:
            # Without downstream examples a pre-trained model is the same whatever the seed: one row says it all.
            same = examples == 0 and self.starts_from == "pretrained"
            yield from ((examples, seed) for seed in range(1 if same else seeds))

    def refusal_of(self, model: OperatorModel) -> str | None:
        """Why the protocol cannot use a model, if it cannot.

        Raises:
            PluginError: the protocol gives no answer.
        """
        return refusal_reason(f"protocol {self.name!r}: refuses", lambda: self.protocol.refuses(model))


def make_arm(name: str, downstream: Sequence[int], pool: int, registry: Registry) -> Arm:
    """Make the arm of a registered protocol.

    Args:
        name: of the protocol.
        downstream: the numbers of downstream examples of the profile.
        pool: how many there are to draw from.
        registry: has the protocol.

    Raises:
        UnknownNameError: nobody registered it.
        PluginError: it cannot be made, or says something that cannot be.
    """
    who = f"protocol {name!r}"
    version = registry.get("protocols", name).version
    protocol: TransferProtocol = call_plugin(f"{who}: cannot be made", registry.load("protocols", name))
    return Arm(name, version, start_of(who, protocol), sizes_of(who, protocol, downstream, pool), protocol)


def start_of(who: str, protocol: TransferProtocol) -> Start:
    """Return what a protocol starts from.

    Raises:
        PluginError: it is neither of the two.
    """
    start = call_plugin(f"{who}: starts_from", lambda: protocol.starts_from)
    if start not in ("pretrained", "initialised"):
        raise PluginError(f"{who}: starts_from must be 'pretrained' or 'initialised', got {show(start)}")
    return start


def sizes_of(who: str, protocol: TransferProtocol, downstream: Sequence[int], pool: int) -> tuple[int, ...]:
    """Return the numbers of downstream examples at which a protocol is scored.

    Raises:
        PluginError: there are none, they do not rise from 0 up, or there are not so many examples to draw from.
    """
    said = call_plugin(f"{who}: sizes", lambda: list(protocol.sizes(downstream)))
    sizes = tuple(int(size) for size in said if isinstance(size, Integral) and not isinstance(size, bool))
    if not said or len(sizes) < len(said) or list(sizes) != sorted({size for size in sizes if size >= 0}):
        raise PluginError(f"{who}: sizes must be rising whole numbers from 0 up, at least one, got {show(said)}")
    if sizes[-1] > pool:
        raise PluginError(f"{who}: sizes must be at most {pool}, the size of the pool, got {sizes[-1]}")
    return sizes
