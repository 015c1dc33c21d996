from __future__ import annotations

import numpy as np
import pytest
import torch

from pdebench_fm.data.combine import InMemory, Mixture, NoExamples, Subset, kept, size_in_memory
from pdebench_fm.errors import UsageError
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples

GRID = Grid(8)
SOLUTION = (Channel("solution"),)
A = SmoothExamples(Problem((Channel("source"), Channel("k11", "constant")), SOLUTION, GRID), 5)
B = SmoothExamples(Problem((Channel("source"), Channel("omega", "constant")), SOLUTION, GRID), 3, seed=1)


def test_a_mixture_gives_each_part_its_own_channels_and_zeros_elsewhere() -> None:
    mixture = Mixture([A, B])
    assert len(mixture) == 8
    assert mixture.problem.input_names == ("source", "k11", "omega")
    inputs, outputs = mixture.batch([6, 0, 7, 4])  # parts interleaved on purpose
    from_a, wanted_a = A.batch([0, 4])
    from_b, wanted_b = B.batch([1, 2])
    assert torch.equal(inputs["source"][[1, 3]], from_a["source"])
    assert torch.equal(inputs["k11"], torch.tensor([0.0, from_a["k11"][0], 0.0, from_a["k11"][1]]))
    assert torch.equal(inputs["omega"], torch.tensor([from_b["omega"][0], 0.0, from_b["omega"][1], 0.0]))
    assert torch.equal(outputs["solution"][[1, 3]], wanted_a["solution"])
    assert torch.equal(outputs["solution"][[0, 2]], wanted_b["solution"])


@pytest.mark.parametrize(("size", "sizes"), [(2, [2, 2, 1]), (5, [5]), (64, [5])])
def test_batches_are_the_whole_set_in_order(size: int, sizes: list[int]) -> None:
    batches = list(A.batches(size))
    assert [len(outputs["solution"]) for _, outputs in batches] == sizes
    for mine, whole in zip(zip(*batches, strict=True), A.batch(range(5)), strict=True):
        assert all(torch.equal(torch.cat([part[name] for part in mine]), whole[name]) for name in whole)


def test_the_empty_set_has_no_batches() -> None:
    assert list(NoExamples(A.problem).batches()) == []


def test_a_set_kept_in_memory_is_the_same_set() -> None:
    memory = InMemory(A)
    for ids in ([3], [4, 0, 0], np.arange(5)):
        for mine, theirs in zip(memory.batch(ids), A.batch(ids), strict=True):
            torch.testing.assert_close(dict(mine), dict(theirs))


def test_a_batch_kept_in_memory_can_be_changed_without_changing_the_set() -> None:
    memory = InMemory(A)
    memory.batch([0])[0]["source"].zero_()
    assert torch.equal(memory.batch([0])[0]["source"], A.batch([0])[0]["source"])


def test_only_what_fits_is_kept() -> None:
    size = size_in_memory(A)
    assert size == 4 * 5 * (2 * 64 + 1)
    assert isinstance(kept(A, size), InMemory)
    assert kept(A, size - 1) is A


def test_a_subset_refuses_examples_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match=r"0 … 4, got up to 5"):
        Subset(A, [0, 5])


def test_no_examples_have_no_batch() -> None:
    empty = NoExamples(A.problem)
    assert len(empty) == 0
    with pytest.raises(UsageError, match="has no batch"):
        empty.batch([0])
