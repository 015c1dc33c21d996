"""How long a network takes, counted instead of run: its operations, times how fast this machine is.

The network is built on torch's meta device, which has shapes and no data, so a network of any size takes a moment. The
result is rough, by up to a factor of two: caches are left out, and Fourier transforms count only as memory traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pdebench_fm._util.timing import now
from pdebench_fm.problem import Problem
from pdebench_fm.training.calling import empty_inputs, without_memory

_SLACK = 1.5
"""Networks reach two thirds of the speeds that `measure_machine` finds, on a CPU."""
_FREE = frozenset({"empty", "new_empty", "empty_like", "detach", "_unsafe_view", "lift_fresh", "alias"})
"""Operations that touch no memory."""


@dataclass(frozen=True)
class Machine:
    """How fast a device is.

    Args:
        flops: floating-point operations a second, in a product with a small matrix.
        bytes: bytes a second, read and written by a GELU.
        call: seconds that calling one operation takes.
    """

    flops: float
    bytes: float
    call: float


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that run inside: floating-point operations, bytes read and written, and calls."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.bytes = self.calls = 0

    def seconds(self, machine: Machine) -> float:
        """Return how long they take on a machine."""
        return _SLACK * (self.flops / machine.flops + self.bytes / machine.bytes) + self.calls * machine.call

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        given = dict(kwargs or {})
        result = func(*args, **given)
        operation = func.overloadpacket
        if func.is_view or operation.__name__ in _FREE:
            return result
        self.calls += 1
        self.bytes += _size((*args, *given.values(), result))
        if operation in flop_registry:
            self.flops += flop_registry[operation](*args, **given, out_val=result)
        return result


def count_step(build: Callable[[Problem], nn.Module], problem: Problem, batch: int) -> tuple[Operations, int]:
    """Count the operations of a training step, without data and without the optimiser.

    A network that needs data raises an error of its own.

    Returns:
        the operations, and the bytes of the weights.
    """
    network = without_memory(build, problem)
    with Operations() as counted:
        network(*empty_inputs(problem, batch)).square().sum().backward()
    return counted, sum(weight.numel() * weight.itemsize for weight in network.parameters())


@cache
def measure_machine(device: str) -> Machine:
    """Time a matrix product, a GELU and a call on a device, as networks have them; takes a tenth of a second."""
    scale = 16 if device.startswith("cuda") else 1
    rows, matrix = torch.ones(scale * 2**15, 64, device=device), torch.ones(64, 64, device=device)
    long, one = torch.ones(scale * 2**22, device=device), torch.ones(1, device=device)
    product, active = torch.empty_like(rows), torch.empty_like(long)
    return Machine(
        flops=2 * rows.numel() * 64 / _fastest(lambda: torch.mm(rows, matrix, out=product), device),
        bytes=2 * long.numel() * long.itemsize / _fastest(lambda: torch.ops.aten.gelu.out(long, out=active), device),
        call=_fastest(lambda: [one.add_(1.0) for _ in range(200)], device) / 200,
    )


def _fastest(work: Callable[[], Any], device: str) -> float:
    """Return the seconds of the fastest of some calls; the first ones warm up."""
    times = []
    for _ in range(4):
        start = now(device)
        work()
        times.append(now(device) - start)
    return max(min(times), 1e-9)


def _size(value: Any) -> int:
    """Return the bytes of a tensor, or of those in a list; what strides repeat counts once."""
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    if not isinstance(value, Tensor):
        return 0
    return min(value.numel() * value.itemsize, value.untyped_storage().nbytes())
