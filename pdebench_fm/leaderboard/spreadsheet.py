"""``leaderboard.csv``: a row for each model of each study."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from pdebench_fm.leaderboard.cards import Cards, card_of
from pdebench_fm.leaderboard.page.rows import seen_tasks
from pdebench_fm.leaderboard.standing import Standing, SuiteResults


def render_csv(results: Sequence[tuple[SuiteResults, Sequence[Standing]]], cards: Cards) -> str:
    """Return the text; ``results`` are studies and their rankings."""
    from pandas import DataFrame

    rows = [_row(found, standing, cards) for found, ranking in results for standing in ranking]
    return DataFrame(rows, dtype=object).map(_cell).to_csv(index=False, lineterminator="\n")


def _row(found: SuiteResults, standing: Standing, cards: Cards) -> dict[str, object]:
    """Return the row of one model."""
    saving, use, against, cost = standing.saving, standing.coefficients, standing.against, standing.prediction
    badge, sure, card = standing.badge, standing.uncertainty, card_of(cards, standing.model)
    low, high = (sure and sure.score) or (None, None)
    best, worst = (sure and sure.rank) or (None, None)
    return {
        "suite": found.suite,
        "suite_version": found.suite_version,
        "profile": found.profile,
        "rank": standing.rank,
        "rank_low": best,
        "rank_high": worst,
        "model": standing.model,
        "verified": badge and badge.tier,
        "verified_cells": badge and badge.cells,
        "confirmed_by": standing.confirmed.by,
        "confirmations_apart": standing.confirmed.apart,
        "score": standing.score,
        "score_low": low,
        "score_high": high,
        "groups": sure and sure.groups,
        "seeds": sure and sure.seeds,
        "preview": sure and sure.preview,
        "interval_over": sure and sure.over,
        "gain_over_scratch": standing.gain,
        "gain_over_best_scratch": against and against.best_scratch,
        "gain_over_baseline": against and against.baseline,
        "hurts": against and len(against.hurt),
        "compared": against and against.compared,
        "data_saving": saving and saving.value,
        "savings": saving and saving.count,
        "savings_more": saving and saving.more,
        "savings_at_most": saving and saving.at_most,
        "train_seconds": standing.train_seconds,
        "scratch_seconds": standing.scratch_seconds,
        "open_searches": "; ".join(f"{arm} {number} of {of}" for arm, number, of in standing.open_searches),
        "parameters": max(standing.parameters, default=None),
        "flops": cost and cost.flops,
        "inference_seconds": cost and cost.seconds,
        "inference_on": cost and cost.where,
        "peak_memory": cost and cost.memory,
        "device": "; ".join(standing.devices),
        "coefficient_rise": use and use.rise,
        "coefficients_unused_on": use and "; ".join(use.ignored_on),
        "coefficients_unmeasured": use and use.unmeasured,
        "under_trained": standing.under_trained,
        "openness": card and card.openness,
        "seen_tasks": "; ".join(seen_tasks(cards, standing.model, found)),
        "reason": standing.reason,
    }


def _cell(value: object) -> str:
    """Return a cell that a spreadsheet cannot take for a formula. Negative numbers are kept."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"  # which hides the last bit of a machine's logarithm
    text = str(value)
    with suppress(ValueError):
        float(text)
        return text
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
