"""The rows of studies and rankings that the page and ``leaderboard.json`` show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pdebench_fm.leaderboard.badges import Badge
from pdebench_fm.leaderboard.cards import Cards, card_of, card_path
from pdebench_fm.leaderboard.solvers import solvers_of
from pdebench_fm.leaderboard.standing import Prediction, Standing, SuiteResults
from pdebench_fm.records.record import Record
from pdebench_fm.records.solver import SolverRecord
from pdebench_fm.tables.wording import natural

Row = dict[str, Any]


def study_row(found: SuiteResults, newest: int, replaced: bool) -> Row:
    """Return what is true of a suite, version and profile.

    Args:
        newest: version of the suite that the leaderboard has for this profile.
        replaced: whether the suite has a newer version by now.
    """
    return {
        "study": study_name(found),
        "suite": found.suite,
        "version": found.suite_version,
        "profile": found.profile,
        "planned": len(found.planned),
        "ranked": found.from_suite,
        "under_trained": any(record.under_trained for record in found.records),
        "superseded": found.suite_version < newest,
        "awaits_newer": replaced and found.suite_version == newest,
    }


def study_name(found: SuiteResults) -> str:
    """Return e.g. ``mixed v2, lite``."""
    return f"{found.suite} v{found.suite_version}, {found.profile}"


def seen_tasks(cards: Cards, model: str, found: SuiteResults) -> list[str]:
    """Return the tasks of a study that a model's released weights have seen, as its card says."""
    card = card_of(cards, model)
    return [] if card is None else sorted({r.task for r in found.points if r.task in card.seen}, key=natural)


def ranking_row(found: SuiteResults, standing: Standing, cards: Cards) -> Row:
    """Return the row of one model in the ranking of one study."""
    card = card_of(cards, standing.model)
    mine = [record for record in found.records if record.model == standing.model]
    saving, use, against = standing.saving, standing.coefficients, standing.against
    sure = standing.uncertainty
    low, high = (sure and sure.score) or (None, None)
    best, worst = (sure and sure.rank) or (None, None)
    bounds = [] if saving is None else [f"{n} {sign}" for n, sign in ((saving.more, ">"), (saving.at_most, "≤")) if n]
    return {
        "study": study_name(found),
        "model": standing.model,
        "kind": model_kind(mine),
        "rank": standing.rank,
        "rank_low": best,
        "rank_high": worst,
        "preview": sure and sure.preview,
        "groups": "" if sure is None else sure.groups,
        "seeds": sure and sure.seeds,
        "interval_over": "" if sure is None else sure.over,
        "verified": verified_text(standing.badge),
        "confirmed": str(standing.confirmed),
        "apart": standing.confirmed.apart,
        "score": six(standing.score),
        "score_low": six(low),
        "score_high": six(high),
        "gain": six(standing.gain),
        "gain_best_scratch": against and six(against.best_scratch),
        "gain_baseline": against and six(against.baseline),
        "hurts": against and len(against.hurt),
        "hurts_of": against and against.compared,
        "saving": saving and six(saving.value),
        "saving_bounds": ", ".join(bounds) + f" of {saving.count}" if saving and bounds else "",
        "coefficients": use and six(use.rise),
        "coefficients_unmeasured": use and (use.unmeasured or None),
        "unused_on": "" if use is None else "all tasks" if use.ignored else ", ".join(use.ignored_on),
        "open": sum(number for _, number, _ in standing.open_searches) if standing.open_searches else None,
        "open_of": sum(of for *_, of in standing.open_searches) if standing.open_searches else None,
        "open_by_arm": ", ".join(f"{arm} {number} of {of}" for arm, number, of in standing.open_searches),
        "parameters": max(standing.parameters, default=None),
        "train_seconds": six(standing.train_seconds),
        "scratch_seconds": six(standing.scratch_seconds),
        **prediction_row(standing.prediction),
        "device": ", ".join(standing.devices),
        "openness": "no card" if card is None else card.openness,
        "card": "" if card is None else card_path(Path(), card.model).as_posix(),
        "seen": ", ".join(seen_tasks(cards, standing.model, found)),
        "reason": standing.reason,
        "wins": [] if sure is None else [{"against": name, "probability": p} for name, p in sure.wins.items()],
    }


def prediction_row(cost: Prediction | None) -> Row:
    """Return what a prediction costs, as rankings and cells show it."""
    return {
        "flops": cost and cost.flops,
        "inference_seconds": cost and six(cost.seconds),
        "inference_on": "" if cost is None else cost.where,
        "memory": cost and cost.memory,
    }


def solver_rows(found: SuiteResults, solvers: Iterable[SolverRecord]) -> Iterator[Row]:
    """Yield a row for each solver and task of a study, the most accurate solver first."""
    for standing in solvers_of(found, solvers):
        for record in standing.records:
            yield {
                "study": study_name(found),
                "solver": record.solver,
                "task": record.task,
                "error": six(record.error),
                "error_low": six(record.interval[0]),
                "error_high": six(record.interval[1]),
                "mean_error": six(standing.error),
                "inference_seconds": six(record.inference_seconds),
                "inference_on": f"{record.inference_device}, batch: {record.inference_batch}",
                "test_examples": record.test_examples,
            }


def verified_text(badge: Badge | None) -> str:
    """Return e.g. ``retrained: 5 of 66, 2026-11-29``."""
    return "claimed" if badge is None else f"{badge.tier}: {badge.cells} of {badge.of}, {badge.date}"


def model_kind(records: Sequence[Record]) -> str:
    """Return ``released``, ``network`` or ``baseline``, by what the model's jobs start from and their steps."""
    trained = any(record.steps for record in records)
    arrives = any(record.described.start.source == "released" for record in records)
    return ("released" if arrives else "network") if trained else "baseline"


def six(value: float | None) -> float | None:
    """Return a number with six digits, which hide the last bit of a machine's logarithm; None if it is not finite."""
    return None if value is None else digits(value, 6)


def digits(value: float, count: int) -> float | None:
    """Return a number with this many significant digits; None if it is not finite."""
    return float(f"{value:.{count}g}") if math.isfinite(value) else None
