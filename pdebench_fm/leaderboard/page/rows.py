"""The rows of studies and rankings that the page and ``leaderboard.json`` show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pdebench_fm.leaderboard.badges import Badge
from pdebench_fm.leaderboard.standing import Standing, SuiteResults
from pdebench_fm.records.record import Record, start_of

Row = dict[str, Any]


def study_row(found: SuiteResults, newest: int) -> Row:
    """Return what is true of a suite, version and profile.

    Args:
        newest: version of the suite that the leaderboard has for this profile.
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
    }


def study_name(found: SuiteResults) -> str:
    """Return e.g. ``mixed v2, lite``."""
    return f"{found.suite} v{found.suite_version}, {found.profile}"


def ranking_row(found: SuiteResults, standing: Standing) -> Row:
    """Return the row of one model in the ranking of one study."""
    mine = [record for record in found.records if record.model == standing.model]
    saving, use, against = standing.saving, standing.coefficients, standing.against
    bounds = [] if saving is None else [f"{n} {sign}" for n, sign in ((saving.more, ">"), (saving.at_most, "≤")) if n]
    return {
        "study": study_name(found),
        "model": standing.model,
        "kind": model_kind(mine),
        "rank": standing.rank,
        "verified": verified_text(standing.badge),
        "score": six(standing.score),
        "gain": six(standing.gain),
        "gain_best_scratch": None if against is None else six(against.best_scratch),
        "gain_baseline": None if against is None else six(against.baseline),
        "hurts": None if against is None else len(against.hurt),
        "hurts_of": None if against is None else against.compared,
        "saving": None if saving is None else six(saving.value),
        "saving_bounds": ", ".join(bounds) + f" of {saving.count}" if saving and bounds else "",
        "coefficients": None if use is None else six(use.rise),
        "unused_on": "" if use is None else ", ".join(use.ignored_on),
        "open": sum(number for _, number, _ in standing.open_searches) if standing.open_searches else None,
        "open_of": sum(of for *_, of in standing.open_searches) if standing.open_searches else None,
        "open_by_arm": ", ".join(f"{arm} {number} of {of}" for arm, number, of in standing.open_searches),
        "parameters": max(standing.parameters, default=None),
        "train_seconds": six(standing.train_seconds),
        "scratch_seconds": six(standing.scratch_seconds),
        "device": ", ".join(standing.devices),
        "reason": standing.reason,
    }


def verified_text(badge: Badge | None) -> str:
    """Return e.g. ``retrained: 5 of 66, 2026-11-29``."""
    return "claimed" if badge is None else f"{badge.tier}: {badge.cells} of {badge.of}, {badge.date}"


def model_kind(records: Sequence[Record]) -> str:
    """Return ``released``, ``network`` or ``baseline``, by what the model's jobs start from and their steps."""
    trained = any(record.steps for record in records)
    arrives = any(start_of(record).get("from") == "released" for record in records)
    return ("released" if arrives else "network") if trained else "baseline"


def six(value: float | None) -> float | None:
    """Return a number with six digits, which hide the last bit of a machine's logarithm; None if it is not finite."""
    return None if value is None else digits(value, 6)


def digits(value: float, count: int) -> float | None:
    """Return a number with this many significant digits; None if it is not finite."""
    return float(f"{value:.{count}g}") if math.isfinite(value) else None
