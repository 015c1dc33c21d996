"""Several processes that train one trial together: each computes a part of every batch.

Weights, moments and decisions are the same in all of them, because each is computed from sums over all ranks. Only
running statistics and other buffers differ. At the end of every epoch all ranks take those of the last one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn

from pdebench_fm.errors import RunError


class Ranks:
    """The processes of one trial: torch's default process group if there are several.

    Args:
        rank: this process, 0 … count − 1. Only rank 0 writes files.
        count: number of processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, size: int) -> tuple[int, int]:
        """Return where this process's part of ``size`` examples begins and ends; parts differ by one at most."""
        return size * self.rank // self.count, size * (self.rank + 1) // self.count

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by its sum over all ranks."""
        if self.count == 1:
            return
        tensors = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
        # One message instead of one per tensor: small networks have many small tensors.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def add_gradients(self, module: nn.Module, loss: Tensor) -> None:
        """Replace ``loss`` and all gradients by their sums over all ranks."""
        if self.count == 1:
            return
        trained = [p for p in module.parameters() if p.requires_grad]
        reached = torch.tensor([float(p.grad is not None) for p in trained], device=loss.device, dtype=loss.dtype)
        for parameter in trained:
            if parameter.grad is None:  # this rank had no example, or none that needs it
                parameter.grad = torch.zeros_like(parameter)
        self.add([loss, reached, *(p.grad for p in trained if p.grad is not None)])
        # A parameter that no example needs keeps no gradient, so Adam skips it, as with one process.
        for parameter, ranks in zip(trained, reached.tolist(), strict=True):
            if ranks == 0:
                parameter.grad = None

    def take_last(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor by that of the last rank, which has an example if any rank has."""
        if self.count == 1:
            return
        if not self.agree(len(tensors)):
            raise RunError("the processes of this fit have networks of different buffers: make them all in __init__")
        for tensor in tensors:
            content = tensor.detach().contiguous().reshape(-1).view(torch.uint8)  # of any type, complex ones too
            distributed.broadcast(content, src=self.count - 1)
            tensor.copy_(content.view(tensor.dtype).view(tensor.shape))

    def agree(self, number: int) -> bool:
        """Wait for all ranks; return whether every rank gave the same number."""
        if self.count == 1:
            return True
        found: list[int | None] = [None] * self.count
        distributed.all_gather_object(found, number)
        return set(found) == {number}
