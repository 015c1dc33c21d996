"""The arms of a suite: each of its transfer protocols at the sizes of one profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pdebench_fm.errors import PluginError
from pdebench_fm.interfaces import OperatorModel, TransferProtocol
from pdebench_fm.plan.protocol import ProtocolSpec
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import call_plugin, refusal_reason


@dataclass(frozen=True)
class Arm:
    """A transfer protocol on the sizes of one profile.

    Args:
        sizes: the numbers of training examples N at which it is scored, rising.
    """

    spec: ProtocolSpec
    protocol: TransferProtocol
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name in records and tables."""
        return self.spec.label

    @property
    def pretrained(self) -> bool:
        """Whether the arm starts from a pre-training."""
        return self.protocol.starts_from == "pretrained"

    def cells(self, seeds: int) -> Iterator[tuple[int, int]]:
        """Yield every (examples, seed) of the arm on one task."""
        for examples in self.sizes:
            # A pre-trained model without downstream examples is the same for every seed: one row says it all.
            same = examples == 0 and self.pretrained
            yield from ((examples, seed) for seed in range(1 if same else seeds))

    def refusal_of(self, model: OperatorModel) -> str | None:
        """Return why the protocol cannot use a model, None if it can."""
        return refusal_reason(f"protocol {self.name!r}: refuses", lambda: self.protocol.refuses(model))


def make_arm(spec: ProtocolSpec, downstream: Sequence[int], pool: int, registry: Registry) -> Arm:
    """Make the arm of a protocol.

    Args:
        downstream: the numbers of downstream examples of the profile.
        pool: how many examples there are to draw from.
    """
    who = f"protocol {spec.label!r}"
    protocol = call_plugin(f"{who}: cannot be made", lambda: spec.make(registry))
    sizes = call_plugin(f"{who}: sizes", lambda: tuple(int(size) for size in protocol.sizes(downstream)))
    if not sizes or sizes[-1] > pool:
        raise PluginError(f"{who}: sizes must be at least one number, of at most {pool} (the pool), got {list(sizes)}")
    return Arm(spec, protocol, sizes)
