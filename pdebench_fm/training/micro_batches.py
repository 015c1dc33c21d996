"""How many examples may pass through a network at once. Larger batches are accumulated in parts.

The gradient of a batch is the sum over its parts, so the result is the same to rounding (except with batch
normalisation). The size depends only on the network, the grid and the kind of device, so a fit can be repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pdebench_fm.training.calling import call_network
from pdebench_fm.training.feed import Batch

CPU_ROOM = 2**32
"""Bytes that the backward pass may keep on a CPU."""
_CUDA_SHARE = 0.5  # of the device's memory; the rest is for weights, Adam, gradients and temporary tensors


def micro_batch_size(module: nn.Module, sample: Batch, room: int | None = None) -> int:
    """Return how many examples fit into ``room``; at least one.

    Args:
        sample: one example.
        room: bytes; by default a share of the device's memory.
    """
    room = _room(sample.fields.device) if room is None else room
    return max(1, room // max(1, saved_bytes(module, sample)))


def saved_bytes(module: nn.Module, batch: Batch) -> int:
    """Return the bytes that autograd keeps for the backward pass, without the network's own tensors."""
    seen: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        seen[_storage(tensor)] = tensor.untyped_storage().nbytes()
        kept.append(tensor.detach())  # or another could get the same address
        return kept[-1]  # an output that kept its own node would be a cycle, which Python's collector cannot see

    kept: list[Tensor] = []
    training = module.training
    module.eval()  # batch statistics must not see this
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            call_network(module, batch.fields, batch.constants, batch.target.shape[1])
    finally:
        module.train(training)
    own = {_storage(tensor) for tensor in (*module.parameters(), *module.buffers())}  # lazy ones have a storage by now
    return sum(size for storage, size in seen.items() if storage not in own)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _room(device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_ROOM
    return int(torch.cuda.get_device_properties(device).total_memory * _CUDA_SHARE)
