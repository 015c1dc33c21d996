"""Checks of a distribution: its sampler, its splits, its PDE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pdebench_fm.testing.claims import Check, claims, expect, expect_close, parametrised


def distribution_checks(reference: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks the sampler and the PDE behind a distribution ``SUITE:NAME``."""
    return parametrised(lambda: checks_of_distribution(reference), DISTRIBUTION_CHECKS)


def checks_of_distribution(reference: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a distribution ``SUITE:NAME``."""
    return claims(DISTRIBUTION_CHECKS, reference)


def check_examples_do_not_depend_on_company(reference: str) -> None:
    """Example i is the same in a larger set, in another order, and alone."""
    few, many = _open(reference, 4), _open(reference, 9)
    whole, _ = many.examples.batch(range(9))
    expect_close({n: v[:4] for n, v in whole.items()}, few.examples.batch(range(4))[0], "a set's size changes examples")
    shuffled, _ = many.examples.batch([7, 2, 5])
    expect_close({n: v[[7, 2, 5]] for n, v in whole.items()}, shuffled, "the order changes examples")


def check_splits_differ(reference: str) -> None:
    """No example of one split occurs in another."""
    from pdebench_fm.api import find_distribution
    from pdebench_fm.interfaces import SPLITS

    suite, title = find_distribution(reference)
    splits = suite.distributions[title].files or SPLITS
    firsts = [_open(reference, 8, split=split).examples.batch(range(8))[0] for split in splits]
    for i, one in enumerate(firsts):
        for other in firsts[:i]:
            name = next(name for name, value in one.items() if value.ndim == 3)
            gaps = (one[name][:, None] - other[name][None]).abs().amax(dim=(-2, -1))
            expect(bool((gaps > 0).all()), "an example occurs in two splits")


def check_solution_solves_the_pde(reference: str) -> None:
    """In float64 the residual of the solution is below 1e-10 of the largest term scale."""
    import torch

    opened = _open(reference, 8)
    if opened.system is None:
        return
    inputs, _ = opened.examples.batch(range(8))
    exact = {name: value.double() for name, value in inputs.items()}
    solution = opened.system.solve(exact)
    residual = opened.system.residual(exact, solution).flatten(1).norm(dim=1)
    scale = exact[opened.system.problem.input_fields[0]].flatten(1).norm(dim=1)
    worst = float((residual / scale).max())
    expect(worst < 1e-10, f"the relative residual must be below 1e-10, got {worst:.2e}")
    expect(all(bool(torch.isfinite(v).all()) for v in solution.values()), "solutions must be finite")


DISTRIBUTION_CHECKS: tuple[Callable[[str], None], ...] = (
    check_examples_do_not_depend_on_company,
    check_splits_differ,
    check_solution_solves_the_pde,
)


def _open(reference: str, count: int, split: Any = "test") -> Any:
    from pdebench_fm.api import open_distribution

    return open_distribution(reference, split=split, count=count, grid=32, device="cpu")
