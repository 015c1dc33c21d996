"""The arms of a suite: what each of its transfer protocols says of itself, asked once and checked.

Protocols may be somebody else's, so whatever one raises or returns ends in one line that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, TypeVar

from pdebench_fm.errors import FOREIGN, PdefmError, PluginError
from pdebench_fm.interfaces import OperatorModel, TransferProtocol
from pdebench_fm.messages import named, show
from pdebench_fm.plugins import Registry

_T = TypeVar("_T")


@dataclass(frozen=True)
class Arm:
    """A transfer protocol on the sizes of one profile.

    Args:
        sizes: the N at which it is scored, rising.
    """

    name: str
    version: str
    starts_from: Literal["pretrained", "initialised"]
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
            PluginError: the protocol raises something that is not ours.
        """
        reason = _asked(self.name, "refuses", lambda: self.protocol.refuses(model))
        return None if reason is None else str(reason)


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
    version = registry.get("protocols", name).version
    protocol = _asked(name, "cannot be made", registry.load("protocols", name))
    starts_from = _asked(name, "starts_from", lambda: protocol.starts_from)
    if starts_from not in ("pretrained", "initialised"):
        raise PluginError(
            f"protocol {name!r}: starts_from must be 'pretrained' or 'initialised', got {show(starts_from)}"
        )
    said = _asked(name, "sizes", lambda: list(protocol.sizes(downstream)))
    sizes = tuple(int(size) for size in said if isinstance(size, Integral) and not isinstance(size, bool))
    if len(sizes) < len(said) or list(sizes) != sorted({size for size in sizes if size >= 0}):
        raise PluginError(f"protocol {name!r}: sizes must be rising whole numbers from 0 up, got {show(said)}")
    if sizes and sizes[-1] > pool:
        raise PluginError(f"protocol {name!r}: sizes must be at most {pool}, the size of the pool, got {sizes[-1]}")
    return Arm(name, version, starts_from, sizes, protocol)


def _asked(name: str, what: str, ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except PdefmError:
        raise
    except FOREIGN as error:
        raise PluginError(f"protocol {name!r}: {what}: {named(error)}") from error
