"""Intervals of scores and ranks: a bootstrap over tasks, seeds and test examples, with the same draws for all models.

``docs/intervals.md`` has the formulas and their limits; ``benchmarks/coverage.py`` simulates how often they hold.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from pdebench_fm._util.bootstrap import RESAMPLES, resamples, weights
from pdebench_fm._util.identity import job_id
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import SCORED
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.streams import Stream

FEWEST_TASKS = 3
"""With fewer, no interval can say anything about other tasks."""

_TIE = 1e-9
"""Logarithms of scores that are closer are equal: models with the same errors differ by rounding."""
_NORMAL = NormalDist()
_SIDES = (0.025, 0.975)
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Quantile 0.975 of Student's t with 1, 2, … degrees of freedom."""


Errors = Mapping[str, np.ndarray]
"""Job id → the error of each test example, (examples,)."""


@dataclass(frozen=True)
class SeedScore:
    """The error of one model in one cell with one seed.

    Args:
        error: mean over the test examples; positive.
        of_examples: the error of each test example, (examples,). None if not kept.
        spread: standard deviation of log ``error``, used without ``of_examples``.
    """

    error: float
    of_examples: np.ndarray | None = None
    spread: float = 0.0


Cells = Sequence[Sequence[SeedScore]]
"""Cells that share their test examples, each with a point for each seed."""


@dataclass(frozen=True)
class Draws:
    """Resampled scores of models.

    Args:
        scores: logarithms of the observed scores, (models,).
        drawn: of the resampled ones, (models, RESAMPLES).
        over: what was resampled, e.g. ``4 downstream tasks, 3 seeds, test examples``.
        factor: by which the draws are wider than resampling alone gives, since there are few tasks.
    """

    scores: np.ndarray
    drawn: np.ndarray
    over: str
    factor: float


@dataclass(frozen=True)
class Uncertainty:
    """How sure the score and the rank of a model are, with 95% confidence.

    Args:
        score: interval of the score.
        rank: best and worst rank; None if the model is not ranked.
        groups: letters. Ranked models that share one cannot be told apart.
        wins: by other model, the share of resamples in which its score is the larger one.
        seeds: of each fine-tuned cell; the fewest.
        over: what was resampled.
    """

    score: tuple[float, float]
    rank: tuple[int, int] | None
    groups: str
    wins: Mapping[str, float]
    seeds: int
    over: str

    @property
    def preview(self) -> bool:
        """Whether one seed says nothing of how much another training would change the score."""
        return self.seeds == 1


def uncertainties(records: Iterable[Record], ranked: Collection[str], errors: Errors) -> dict[str, Uncertainty]:
    """Return the uncertainty of each model.

    Args:
        records: the planned points of models that have them all, of one suite, version and profile.
        errors: as far as they are kept; older records have none.
    """
    models: dict[str, dict[Cell, Record]] = {}
    for record in records:
        if record.protocol in SCORED:
            models.setdefault(record.model, {})[record.cell] = record
    if not models:
        return {}
    names = sorted(models)
    tests: dict[str, dict[str, Cells]] = {}
    for name in names:
        for test, cells in _by_test(models[name].values(), errors).items():
            tests.setdefault(test, {})[name] = cells
    draws = draw_scores(tests)
    low, high = np.exp(np.quantile(draws.drawn, _SIDES, axis=1))
    at = [index for index, name in enumerate(names) if name in ranked]
    order = compare(draws.drawn[at])
    best, worst = rank_ranges(order)
    letters = groups(order, draws.scores[at])
    places = {index: place for place, index in enumerate(at)}
    lacking = {name for name in names if not all(r.errors_sha256 in errors for r in models[name].values())}
    wins = win_shares(draws.drawn)
    return {
        name: Uncertainty(
            score=(float(low[i]), float(high[i])),
            rank=(int(best[places[i]]), int(worst[places[i]])) if i in places else None,
            groups=letters[places[i]] if i in places else "",
            wins={other: float(wins[i, j]) for j, other in enumerate(names) if j != i},
            seeds=_seeds(models[name]),
            over=draws.over + (" (by the records' intervals)" if name in lacking else ""),
        )
        for i, name in enumerate(names)
    }


def draw_scores(tests: Mapping[str, Mapping[str, Cells]]) -> Draws:
    """Resample the scores of models, with the same draws for all.

    Tasks with the same test examples are drawn together. A score is the geometric mean over cells of the median over
    seeds.

    Args:
        tests: by the hash of the test examples and the model, its cells; all models have the same, in one order.
    """
    names = sorted(tests)
    observed = np.array([[_log_sum(cells) for cells in tests[name].values()] for name in names])
    drawn = np.array([_drawn_log_sums(tests[name], name) for name in names])
    every = [next(iter(tests[name].values())) for name in names]
    counts, seeds = np.array([len(cells) for cells in every]), max(len(cell) for cells in every for cell in cells)
    shares, factor = np.full((RESAMPLES, len(names)), 1 / len(names)), 1.0
    levels = [f"{seeds} seeds"] if seeds > 1 else []
    if len(names) >= FEWEST_TASKS:
        shares = weights(len(names), "tasks")
        factor = math.sqrt(len(names) / (len(names) - 1)) * _widening(len(names))
        levels = [f"{len(names)} downstream tasks", *levels, "test examples"]
    else:
        factor = _widening(seeds) if seeds > 1 else 1.0
        these = "this task" if len(names) == 1 else "these two tasks"
        caution = "" if seeds > 1 else "; another training often falls outside"
        levels = [*levels, f"test examples of {these} only{caution}"]
    scores = observed.sum(axis=0) / counts.sum()
    means = np.einsum("dt,tmd->md", shares, drawn) / (shares @ counts)
    return Draws(scores, scores[:, None] + factor * (means - scores[:, None]), ", ".join(levels), factor)


def compare(drawn: np.ndarray) -> np.ndarray:
    """Return 1 if a model's score is larger than another's, -1 if smaller, 0 if the interval of the difference has 0.

    Args:
        drawn: resampled logarithms of scores, (models, resamples).

    Returns:
        (models, models).
    """
    order = np.zeros((len(drawn), len(drawn)), dtype=int)
    for i, mine in enumerate(drawn):
        low, high = np.quantile(mine - drawn, _SIDES, axis=1)
        order[i] = (low > _TIE).astype(int) - (high < -_TIE)
    return order


def rank_ranges(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the best and the worst rank of each model, (models,), from `compare`."""
    return 1 + (order > 0).sum(axis=1), len(order) - (order < 0).sum(axis=1)


def win_shares(drawn: np.ndarray) -> np.ndarray:
    """Return the share of resamples in which each model has a smaller score than another, (models, models).

    A tie counts half.
    """
    ahead = (drawn - mine for mine in drawn)
    return np.array([((by > _TIE).mean(axis=1) + (by >= -_TIE).mean(axis=1)) / 2 for by in ahead])


def groups(order: np.ndarray, scores: np.ndarray) -> list[str]:
    """Return letters for each model: two share one exactly if they cannot be told apart.

    Args:
        order: from `compare`.
        scores: the best group is ``a``, (models,).
    """
    found: list[set[int]] = [set(range(len(order)))]
    for pair in combinations(range(len(order)), 2):  # insert and absorb (Piepho 2004)
        if not order[pair] or not any(group.issuperset(pair) for group in found):
            continue
        split: list[set[int]] = []
        for group in found:
            split += [group - {one} for one in pair] if group.issuperset(pair) else [group]
        found = [group for n, group in enumerate(split) if group not in split[:n] and not any(group < x for x in split)]
    found.sort(key=lambda group: sorted(scores[list(group)]))
    names = [_letter(n) for n in range(len(found))]
    return ["".join(name for name, group in zip(names, found, strict=True) if i in group) for i in range(len(order))]


def _letter(number: int) -> str:
    return chr(97 + number % 26) + "'" * (number // 26)


def _widening(count: int) -> float:
    """Return how much wider an interval of few observations is by Student's t than by the normal distribution."""
    degrees = count - 1
    quantile = _STUDENT[degrees - 1] if degrees <= len(_STUDENT) else 1.96 + 2.4 / degrees
    return quantile / 1.96


def _by_test(records: Iterable[Record], errors: Errors) -> dict[str, Cells]:
    """Return the points of one model by test set and cell, in order of their seeds."""
    found: dict[str, dict[tuple[str, str, int], list[SeedScore]]] = {}
    for record in sorted(records, key=lambda record: record.cell):
        name = job_id(record.described.test.plain())
        point = SeedScore(record.metrics[SCORE], errors.get(record.errors_sha256 or ""), _spread(record))
        found.setdefault(name, {}).setdefault(record.cell[:3], []).append(point)
    return {name: list(cells.values()) for name, cells in found.items()}


def _spread(record: Record) -> float:
    low, high = record.interval.get(SCORE, (0.0, 0.0))
    return math.log(high / low) / 3.92 if 0 < low <= high < math.inf else 0.0


def _seeds(cells: Mapping[Cell, Record]) -> int:
    trained = [cell for cell in cells if cell.examples > 0] or list(cells)
    return min(sum(other[:3] == cell[:3] for other in trained) for cell in trained)


def _log_sum(cells: Cells) -> float:
    return math.fsum(math.log(np.median([point.error for point in cell])) for cell in cells)


def _drawn_log_sums(models: Mapping[str, Cells], test: str) -> np.ndarray:
    """Return for each model the sum over cells of the log of the resampled medians, (models, RESAMPLES)."""
    points = [[point for cell in cells for point in cell] for cells in models.values()]
    drawn = np.array([[point.error for point in mine] for mine in points])[..., None] * np.ones(RESAMPLES)
    kept = np.array([[point.of_examples is not None for point in mine] for mine in points])
    if kept.any():
        examples = np.array([p.of_examples for mine in points for p in mine if p.of_examples is not None], np.float64)
        drawn[kept] *= examples @ weights(examples.shape[1], test).T / examples.mean(axis=1, keepdims=True)
    for m, (name, mine) in enumerate(zip(models, points, strict=True)):
        if not kept[m].all():  # one deviate for all cells of a model, none in common with other models
            spread = np.where(kept[m], 0.0, [point.spread for point in mine])
            drawn[m] *= np.exp(spread[:, None] * _deviates(f"{test} {name}"))
    total, first = np.zeros((len(models), RESAMPLES)), 0
    for cell in next(iter(models.values())):
        of_seeds = drawn[:, first : first + len(cell)]
        if len(cell) > 1:
            of_seeds = np.take_along_axis(of_seeds, resamples(len(cell), "seeds").T[None], axis=1)
        total += np.log(np.median(of_seeds, axis=1))
        first += len(cell)
    return total


def _deviates(of: str) -> np.ndarray:
    """Return standard normal numbers, (RESAMPLES,)."""
    uniform = Stream({"normal": of}, 1).uniform(range(RESAMPLES))[:, 0] + 2.0**-54
    return np.array([_NORMAL.inv_cdf(value) for value in uniform])
