from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pdebench_fm.errors import UnsupportedError
from pdebench_fm.interfaces import Examples
from pdebench_fm.problem import Channel, Fields, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training.feed import Feed, errors

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("a"), Channel("b")), Grid(8))


class Watched(SmoothExamples):
    """Counts the examples asked for."""

    asked = 0

    def batch(self, ids):  # type: ignore[no-untyped-def]
        self.asked += len(ids)
        return super().batch(ids)


def encode(examples: Examples, inputs: Fields) -> tuple[Tensor, Tensor]:
    return 2 * inputs["source"][:, None], inputs["k11"][:, None]


def test_a_kept_set_gives_the_same_batches_as_one_that_is_made_anew() -> None:
    ids = np.array([70, 3, 3, 0])
    kept = Feed(Watched(PROBLEM, 80), encode, ("b", "a"), torch.float32, passes=5)
    fresh = Feed(Watched(PROBLEM, 80), encode, ("b", "a"), torch.float32, passes=5, limit=0)
    for mine, other in zip(kept.batch(ids), fresh.batch(ids), strict=True):
        assert torch.equal(mine, other)
    inputs, outputs = SmoothExamples(PROBLEM, 80).batch(ids)
    assert torch.equal(kept.batch(ids).fields[:, 0], 2 * inputs["source"])
    assert torch.equal(kept.batch(ids).target[:, 0], outputs["b"])


@pytest.mark.parametrize(("passes", "limit", "kept"), [(2, 2**30, True), (1, 2**30, False), (2, 1000, False)])
def test_a_set_is_kept_where_it_is_read_again_and_fits(passes: int, limit: int, kept: bool) -> None:
    examples = Watched(PROBLEM, 20)
    feed = Feed(examples, encode, ("a",), torch.float32, passes, limit)
    before = examples.asked
    feed.batch(np.arange(7))
    assert examples.asked - before == (0 if kept else 7)


def test_the_dtype_is_that_of_the_network() -> None:
    feed = Feed(SmoothExamples(PROBLEM, 4), encode, ("a",), torch.float64, passes=2)
    assert {tensor.dtype for tensor in feed.batch(np.arange(2))} == {torch.float64}


def test_an_output_that_the_examples_lack_has_no_error() -> None:
    feed = Feed(SmoothExamples(PROBLEM, 4), encode, ("a", "c"), torch.float32, passes=2)
    assert feed.lacks_outputs
    target = feed.batch(np.arange(2)).target
    missed = errors(torch.ones_like(target), target, feed.lacks_outputs)
    assert missed[:, 1].eq(0).all()
    assert missed[:, 0].isfinite().all()


@pytest.mark.parametrize(("factor", "said"), [(1e20, r"norm .*e\+20 cannot"), (1e-25, "norm .*e-2[45] cannot")])
def test_solutions_whose_squared_errors_leave_float32_are_refused(factor: float, said: str) -> None:
    class Scaled(SmoothExamples):
        def batch(self, ids):  # type: ignore[no-untyped-def]
            inputs, outputs = super().batch(ids)
            return inputs, {name: value * factor for name, value in outputs.items()}

    for limit in (0, 2**30):
        with pytest.raises(UnsupportedError, match=said + ".* leave float32; give the data in other units$"):
            Feed(Scaled(PROBLEM, 4), encode, ("a",), torch.float32, passes=2, limit=limit)
    assert len(Feed(Scaled(PROBLEM, 4), encode, ("a",), torch.float64, passes=2)) == 4
