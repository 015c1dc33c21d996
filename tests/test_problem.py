from __future__ import annotations

import pytest
import torch

from pdebench_fm.errors import UsageError
from pdebench_fm.problem import Channel, Grid, Problem

SOURCE, SOLUTION = Channel("source"), Channel("solution")
K11, OMEGA = Channel("k11", "constant"), Channel("omega", "constant")
GRID = Grid(8)


def test_embedding_fills_absent_channels_with_zeros_and_keeps_the_rest() -> None:
    large = Problem((SOURCE, K11, OMEGA), (SOLUTION,), GRID)
    given = {"source": torch.ones(3, 8, 8, dtype=torch.float64), "omega": torch.tensor([1.0, 2.0, 3.0])}
    embedded = large.embed(given)
    assert list(embedded) == ["source", "k11", "omega"]
    assert embedded["source"] is given["source"]
    assert embedded["k11"].shape == (3,)
    assert embedded["k11"].dtype == torch.float64
    assert not embedded["k11"].any()


def test_embedding_refuses_a_channel_the_problem_lacks() -> None:
    with pytest.raises(UsageError, match="has no input omega"):
        Problem((SOURCE, K11), (SOLUTION,), GRID).embed({"source": torch.ones(1, 8, 8), "omega": torch.ones(1)})


def test_union_keeps_the_order_of_first_appearance() -> None:
    union = Problem.union([Problem((SOURCE, K11), (SOLUTION,), GRID), Problem((SOURCE, OMEGA), (SOLUTION,), GRID)])
    assert union.input_names == ("source", "k11", "omega")
    assert union.missing(Problem((SOURCE, OMEGA), (SOLUTION,), GRID)) == ()


def test_union_refuses_other_grids_and_other_roles() -> None:
    one = Problem((SOURCE, K11), (SOLUTION,), GRID)
    with pytest.raises(UsageError, match="share one grid, got 16 × 16, length 1, periodic; 8 × 8, length 1, periodic"):
        Problem.union([one, one.on(Grid(16))])
    with pytest.raises(UsageError, match="share one grid, got 8 × 8, length 1, periodic; 8 × 8, length 2, not periodi"):
        Problem.union([one, one.on(Grid(8, 2.0, periodic=False))])
    with pytest.raises(UsageError, match="'k11' is a field in one problem"):
        Problem.union([one, Problem((SOURCE, Channel("k11")), (SOLUTION,), GRID)])


def test_a_union_has_the_outputs_of_all() -> None:
    one, other = Problem((SOURCE,), (SOLUTION,), GRID), Problem((SOURCE,), (Channel("p"),), GRID)
    assert Problem.union([one, other]).output_names == ("solution", "p")


def test_a_problem_survives_plain_data() -> None:
    problem = Problem((SOURCE, K11), (SOLUTION,), Grid(8, 2.0, False), homogeneous=True)
    assert Problem.parse(problem.describe()) == problem


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Grid(1), "at least 2 points"),
        (lambda: Grid(8, -1.0), "must be positive"),
        (lambda: Channel("a b"), "a channel name is"),
        (lambda: Channel("a", "plane"), "must be 'field' or 'constant'"),  # type: ignore[arg-type]
        (lambda: Problem((SOURCE, SOURCE), (SOLUTION,), GRID), "each channel once"),
        (lambda: Problem((K11,), (SOLUTION,), GRID), "at least one input field"),
        (lambda: Problem((SOURCE,), (), GRID), "at least one output"),
    ],
)
def test_nonsense_is_refused(make: object, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("periodic", [True, False])
def test_points_lie_at_whole_parts_of_the_length(periodic: bool) -> None:
    assert Grid(8, 2.0, periodic).spacing == 0.25
