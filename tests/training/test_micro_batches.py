from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pdebench_fm.training.feed import Batch
from pdebench_fm.training.micro_batches import micro_batch_size, saved_bytes


class Squares(nn.Module):
    """Saves its input to each of ``depth`` products."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.depth = depth
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        for _ in range(self.depth):
            fields = (fields * self.weight).square()
        return fields


class WithConstants(nn.Module):
    def __init__(self, inner: nn.Sequential) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        result: Tensor = self.inner(fields)
        return result


def sample(count: int = 1) -> Batch:
    return Batch(torch.rand(count, 1, 16, 16), torch.rand(count, 2), torch.rand(count, 1, 16, 16))


def test_what_the_backward_pass_needs_is_counted() -> None:
    plane = 4 * 16 * 16
    assert saved_bytes(Squares(3), sample()) == 6 * plane  # input and product of each of three layers
    assert saved_bytes(Squares(3), sample(5)) == 5 * 6 * plane


def test_as_many_examples_as_fit_and_at_least_one() -> None:
    plane = 4 * 16 * 16
    assert micro_batch_size(Squares(1), sample(), room=10 * 2 * plane) == 10
    assert micro_batch_size(Squares(1), sample(), room=1) == 1


@pytest.mark.parametrize("last", [nn.Identity, nn.ReLU, nn.Sigmoid, lambda: nn.GroupNorm(1, 1)])
def test_nothing_of_the_network_is_kept_alive(last: Callable[[], nn.Module]) -> None:
    module = WithConstants(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), last()))
    weight = weakref.ref(module.inner[0].weight)
    saved_bytes(module, sample())
    del module
    gc.collect()
    assert weight() is None


def test_the_network_is_left_as_it_was() -> None:
    module = Squares(2).train()
    saved_bytes(module, sample())
    assert module.training
    assert module.seen.item() == 0
    assert module.weight.grad is None
