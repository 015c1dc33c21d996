"""Checks of a distribution: its sampler, its splits, its PDE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pdebench_fm.data.hdf5 import inspect
from pdebench_fm.data.open import OpenSet, SetSpec, make_sampler, open_set, problem_of
from pdebench_fm.data.sampled import checked
from pdebench_fm.interfaces import SPLITS, Ids, Sampler, Split
from pdebench_fm.plan.sets import check_one_problem, specify
from pdebench_fm.problem import Fields
from pdebench_fm.registry import registry
from pdebench_fm.testing.claims import TOLERANCE, Check, Skipped, claims, expect, expect_close, parametrised

_COUNT = 8
_SHUFFLED = [7, 2, 5]
_BY_THE_SAME, _BY_ANOTHER_SOLVER = 1e-3, 1e-2
_GRID = 32
_COARSE = 64
_FINE = 128
_SAME_FUNCTION = 0.01
_LARGEST_TOLERANCE = 1e-4
_OF_A_RESIDUAL = 100
"""How many times a residual, relative to its scale, the error of a solution may be, relative to its size."""


def distribution_checks(reference: str) -> Callable[[Callable[..., Any]], Any]:
    """Pytest decorator: checks the sampler and the PDE behind a distribution ``SUITE:NAME``."""
    return parametrised(lambda: _DistributionSubject(reference), DISTRIBUTION_CHECKS)


def checks_of_distribution(reference: str) -> Iterator[tuple[str, Check]]:
    """Yield (claim, check) for a distribution ``SUITE:NAME``.

    Raises:
        UnknownNameError: no such suite, or no such distribution in it.
        SuiteError: the suite is invalid.
        DataFileError: a file cannot be read, or the files state different problems.
    """
    return claims(DISTRIBUTION_CHECKS, _DistributionSubject(reference))


class _DistributionSubject:
    """A distribution under test, at 32² if it is sampled."""

    def __init__(self, reference: str) -> None:
        from pdebench_fm.suite.reading import find_distribution

        suite, title = find_distribution(reference)
        self.distribution = suite.distributions[title]
        self.data_seed = suite.data_seed
        self.splits: tuple[Split, ...] = tuple(self.distribution.files or SPLITS)
        if self.distribution.files is not None:
            check_one_problem(title, self.distribution, registry())

    def open(self, split: Split | None = None, count: int = _COUNT, size: int = _GRID) -> OpenSet:
        """Open a few examples, of the test split where none is named, on a grid of that size if they are sampled."""
        chosen: Split = split or ("test" if "test" in self.splits else self.splits[0])
        if self.distribution.files is not None:
            held = inspect(self.distribution.files[chosen]).examples
            if held < count:
                raise Skipped(f"looks at {count} examples, the file of split {chosen!r} has {held}")
        spec = specify(self.distribution, registry(), chosen, count, size, self.data_seed)
        return open_set(spec, registry(), "cpu")

    def sampler(self, size: int = _GRID, data_seed: int | None = None) -> tuple[Sampler, SetSpec]:
        """The sampler of the test examples, and the set that it draws."""
        if self.distribution.files is not None:
            raise Skipped("its examples are read from files, not drawn")
        seed = self.data_seed if data_seed is None else data_seed
        spec = specify(self.distribution, registry(), "test", _COUNT, size, seed)
        return make_sampler(spec.description, registry()), spec

    @property
    def solves_by_itself(self) -> bool:
        """Whether solutions are the sampler's own."""
        return self.distribution.files is None and type(self.sampler()[0]).solve is not Sampler.solve

    def realised(self, size: int = _GRID, data_seed: int | None = None) -> Fields:
        """Draw the inputs of the first test examples and realise them in float64, on a grid of that size."""
        import torch

        sampler, spec = self.sampler(size, data_seed)
        problem = problem_of(spec, registry())
        made = sampler.realise(sampler.draw(range(_COUNT)), problem.grid, "cpu", torch.float64)
        return checked(f"{type(sampler).__name__}: realise", problem.inputs, made, (_COUNT, size), torch.float64)


def check_examples_are_of_their_problem(subject: _DistributionSubject) -> None:
    """Every channel is there, with the shape of the square grid, in the precision asked for; inputs are finite."""
    inputs, _ = subject.open().examples.batch(range(_COUNT))
    for name, value in inputs.items():
        expect(bool(value.isfinite().all()), f"{name} must be finite")
    if subject.distribution.files is None:
        subject.realised(_COARSE)


def check_examples_do_not_depend_on_company(subject: _DistributionSubject) -> None:
    """Example i, inputs and solution, is the same in a larger set, in another order, and by itself."""
    many = subject.open()
    whole, most = _both(many, range(_COUNT)), _tolerance(many, TOLERANCE)
    for ids in (_SHUFFLED, _SHUFFLED[:1], _SHUFFLED[-1:]):
        part = {name: value[ids] for name, value in whole.items()}
        expect_close(part, _both(many, ids), "an example depends on the others of its batch or their order", most)
    if subject.distribution.files is None:  # of a file, some layouts are read at even distances
        first = {name: value[:4] for name, value in whole.items()}
        few = _both(subject.open(count=4), range(4))
        expect_close(first, few, "a set's size changes examples", most)
        sampler, _ = subject.sampler()
        every, drawn = sampler.draw(range(_COUNT)), sampler.draw(_SHUFFLED)
        same = all(_same(np.asarray(value)[_SHUFFLED], np.asarray(drawn[name])) for name, value in every.items())
        expect(same, "draw makes other examples where others are asked for: it must go by the ids")


def check_splits_differ(subject: _DistributionSubject) -> None:
    """No example of one split occurs in another, all its inputs together."""
    import torch

    firsts = [subject.open(split).examples.batch(range(_COUNT))[0] for split in subject.splits]
    for i, one in enumerate(firsts):
        for other in firsts[:i]:
            same = torch.ones(_COUNT, _COUNT, dtype=torch.bool)
            for name, value in one.items():
                same &= (value[:, None] == other[name][None]).reshape(_COUNT, _COUNT, -1).all(dim=2)
            expect(not bool(same.any()), "an example occurs in two splits")


def check_data_seed_changes_examples(subject: _DistributionSubject) -> None:
    """Another ``data_seed`` names another data set: the sampler draws other examples."""
    one, other = subject.realised(), subject.realised(data_seed=subject.data_seed + 1)
    same = all(value.equal(other[name]) for name, value in one.items())
    expect(not same, "the sampler ignores data_seed: with another one it draws the same examples")


def check_examples_do_not_depend_on_the_grid(subject: _DistributionSubject) -> None:
    """An example is one function, whatever grid it is sampled on.

    Drawn once and realised with 64 and 128 points a side, input fields agree at the points that both grids have to 1%
    of how much they vary, and constants agree. Fields that 64 points resolve agree far better; a sampler of rougher
    ones keeps the claim with a fixed number of modes, where each grid gets as many as it carries it does not.
    """
    coarse, fine = subject.realised(_COARSE), subject.realised(2 * _COARSE)
    for name, value in coarse.items():
        if value.ndim == 1:
            expect_close({name: value}, fine, "the grid changes examples")
            continue
        gap = float((value - fine[name][:, ::2, ::2]).norm())
        spread = float((value - value.mean()).norm()) or float(value.norm()) or 1.0
        share = gap / spread
        expect(
            share <= _SAME_FUNCTION,
            f"an example must be the same function on every grid: between {_COARSE} and {2 * _COARSE} points a side "
            f"{name} differs by {share:.1%} of its variation",
        )


def check_solutions_differ(subject: _DistributionSubject) -> None:
    """Solutions are finite, none is zero everywhere, and they are not all equal."""
    import torch

    _, outputs = subject.open().examples.batch(range(_COUNT))
    expect(all(bool(value.isfinite().all()) for value in outputs.values()), "solutions must be finite")
    largest = torch.stack([value.abs().amax(dim=(-2, -1)) for value in outputs.values()]).amax(dim=0)
    expect(bool((largest > 0).all()), "a solution is zero everywhere: no relative error is defined for it")
    same = all(bool((value == value[:1]).all()) for value in outputs.values())
    expect(not same, "all solutions are equal, though the inputs differ")


def check_solutions_are_those_of_the_pde(subject: _DistributionSubject) -> None:
    """What is to be learnt, made by the sampler or read from files, is what the PDE's own solver says.

    To 0.1% of its size, or 100 times the `PDESystem.solver_tolerance` if that is more; to 1% in files, which another
    solver may have written. If a sampler solves by itself, which may be done in another way on fine grids, also at
    128 points a side.
    """
    for size in (_GRID, _FINE) if subject.solves_by_itself else (_GRID,):
        opened = subject.open(size=size)
        if opened.system is None:
            raise Skipped("its examples come without a PDE")
        inputs, outputs = opened.examples.batch(range(_COUNT))
        if not all(bool(value.isfinite().all()) for value in outputs.values()):
            raise Skipped("its solutions are not finite")
        solved = opened.system.solve({name: value.double() for name, value in inputs.items()})
        base = _BY_ANOTHER_SOLVER if subject.distribution.files is not None else _BY_THE_SAME
        most = _tolerance(opened, base)
        for name, value in outputs.items():
            gap = (value.double() - solved[name]).flatten(1).norm(dim=1)
            share = float((gap / solved[name].flatten(1).norm(dim=1).clamp(min=1e-30)).max())
            expect(share <= most, f"{name} must be what the PDE's solver gives, it differs by {share:.1%} of its size")


def check_solution_solves_the_pde(subject: _DistributionSubject) -> None:
    """In float64 the residual of the solution is within `PDESystem.solver_tolerance`, and that of zero is not.

    Both are measured against `PDESystem.residual_scale`. Zero must leave a residual 1,000 times the tolerance: a scale
    that is far too large, or a residual that is small whatever it is given, would pass any solver.
    """
    opened = subject.open()
    system = opened.system
    if system is None:
        raise Skipped("its examples come without a PDE")
    inputs, _ = opened.examples.batch(range(_COUNT))
    exact = {name: value.double() for name, value in inputs.items()}
    solution = system.solve(exact)
    residual = system.residual(exact, solution)
    zero = system.residual(exact, {name: value.new_zeros(value.shape) for name, value in solution.items()})
    if residual is None or zero is None:
        raise Skipped("its system has no residual")
    tolerance = system.solver_tolerance
    expect(0 < tolerance <= _LARGEST_TOLERANCE, f"solver_tolerance must be in (0, 1e-4], got {tolerance!r}")
    scale = system.residual_scale(exact)
    expect(tuple(scale.shape) == (_COUNT,), f"residual_scale must return (batch,), got {tuple(scale.shape)}")
    first = system.problem.input_fields[0]
    hint = f"override it where {first!r}, the first input field, is not the right-hand side"
    usable = bool((scale.isfinite() & (scale > 0)).all())
    expect(usable, f"residual_scale must be positive and finite, got {scale.tolist()}; {hint}")
    worst = float((residual.flatten(1).norm(dim=1) / scale).max())
    expect(worst <= tolerance, f"the relative residual must be {tolerance:g} at most, got {worst:.2e}")
    left = zero.flatten(1).norm(dim=1) / scale
    small = left <= 1e3 * tolerance  # not the other way round: a residual that is not defined at zero is not small
    expect(
        not bool(small.any()),
        f"an output of zero leaves a relative residual of {float(left.min()):.2e}, as if it solved the PDE: "
        f"residual is small for everything, or residual_scale too large; {hint}",
    )


DISTRIBUTION_CHECKS: tuple[Callable[[_DistributionSubject], None], ...] = (
    check_examples_are_of_their_problem,
    check_examples_do_not_depend_on_company,
    check_splits_differ,
    check_data_seed_changes_examples,
    check_examples_do_not_depend_on_the_grid,
    check_solutions_differ,
    check_solutions_are_those_of_the_pde,
    check_solution_solves_the_pde,
)


def _tolerance(opened: OpenSet, least: float) -> float:
    """How far solutions may differ: a solver that stops early stops elsewhere in other company or precision."""
    return least if opened.system is None else max(least, _OF_A_RESIDUAL * opened.system.solver_tolerance)


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True))


def _both(opened: OpenSet, ids: Ids) -> Fields:
    """Inputs and outputs of a batch; that these are finite is for another check."""
    inputs, outputs = opened.examples.batch(ids)
    return {name: value.nan_to_num() for name, value in {**inputs, **outputs}.items()}
