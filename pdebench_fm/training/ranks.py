"""Several processes that train one trial together, as equals: each computes a part of every batch.

Weights, moments and every decision are the same in all of them, because each is computed from sums over all ranks, and
one process is simply the case of one rank. Only buffers that a network changes as it trains, such as running
statistics, are each rank's own; those of the last one count, at the end of every epoch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, distributed

from pdebench_fm.errors import RunError


class Ranks:
    """The processes of one trial; torch's default process group where there are several.

    Args:
        rank: this process, 0 … count − 1. Rank 0 alone writes files.
        count: number of processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, ids: np.ndarray) -> tuple[int, int]:
        """Return where this process's part of ``ids`` begins and ends; the parts differ by one example at most."""
        bounds = [len(ids) * rank // self.count for rank in range(self.count + 1)]
        return bounds[self.rank], bounds[self.rank + 1]

    def add(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by its sum over all ranks."""
        if self.count == 1:
            return
        tensors = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
        # One message instead of one per tensor: small networks have many small tensors.
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def take_last(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by that of the last rank, which has an example wherever any has.

        Raises:
            RunError: another rank has more or fewer.
        """
        if self.count == 1:
            return
        if not self.agree(len(tensors)):
            raise RunError("the processes of this fit have networks of different buffers: make them all in __init__")
        for tensor in tensors:
            content = tensor.detach().contiguous().reshape(-1).view(torch.uint8)  # of any type, complex ones too
            distributed.broadcast(content, src=self.count - 1)
            tensor.copy_(content.view(tensor.dtype).view(tensor.shape))

    def agree(self, number: int) -> bool:
        """Return whether every rank came here with the same number, once all have."""
        if self.count == 1:
            return True
        found: list[int | None] = [None] * self.count
        distributed.all_gather_object(found, number)
        return set(found) == {number}
