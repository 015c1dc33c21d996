"""The ranking on one suite, version and profile: score, gain, cost, and why a model is not ranked.

``docs/scores.md`` says why leaving anything out cannot raise the score.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.text import counted
from pdebench_fm.leaderboard.audit import NO_RULES, Rules
from pdebench_fm.leaderboard.badges import Badge
from pdebench_fm.leaderboard.confirmations import NONE, Confirmations, Confirmed
from pdebench_fm.leaderboard.intervals import Errors, Uncertainty, uncertainties
from pdebench_fm.leaderboard.references import Comparison, References
from pdebench_fm.records.coefficient_use import CoefficientUse, coefficient_use
from pdebench_fm.records.curves import FINE_TUNE, SCORED, SCRATCH, make_curves
from pdebench_fm.records.record import COST, Cell, Record
from pdebench_fm.records.savings import MeanFactor, Saving, geometric_mean, mean_factor, savings
from pdebench_fm.tables.wording import arm_order, natural

Verified = Mapping[tuple[str, int, str, str], Badge]
"""(suite, version, profile, model) → the badge of its results."""


@dataclass(frozen=True)
class Prediction:
    """What the prediction of one example costs, see `pdebench_fm.scoring.cost`.

    Args:
        flops: the most of any task.
        seconds: the median over tasks, arms, N and seeds.
        memory: bytes; the most of any.
        where: device, threads and batch, e.g. ``cpu (x86_64), threads: 1, batch: 64``.
    """

    flops: int | None
    seconds: float | None
    memory: int | None
    where: str

    @classmethod
    def of(cls, records: Iterable[Record]) -> Prediction | None:
        """Summarise the records that say what their predictions cost; None if none does."""
        found = [r for r in records if any(getattr(r, name) is not None for name in COST)]
        if not found:
            return None
        seconds = [r.inference_seconds for r in found if r.inference_seconds is not None]
        places = {f"{r.inference_device}, batch: {r.inference_batch}" for r in found if r.inference_seconds}
        return cls(
            flops=max((r.flops for r in found if r.flops is not None), default=None),
            seconds=median(seconds) if seconds else None,
            memory=max((r.peak_memory for r in found if r.peak_memory is not None), default=None),
            where="; ".join(sorted(places)),
        )


@dataclass(frozen=True)
class Standing:
    """One model on one suite, version and profile.

    Args:
        rank: counted from 1; None if the model cannot be ranked, or the plan is unknown.
        score: geometric mean over tasks, scored arms and N of the median error over seeds; None unless complete.
        gain: geometric mean over tasks and N ≥ 1 of scratch error / fine-tuning error; None unless complete.
        saving: geometric mean over the same of scratch examples for the error of N fine-tuning examples / N.
        train_seconds: training behind the score: pre-training and scored arms, all trials and seeds, each trial once.
        scratch_seconds: training of all other arms.
        reason: why there is no score; empty if there is one.
        diverged: whether a cell diverged.
        coefficients: whether it uses them; None if not measured.
        open_searches: by arm, how many points chose the smallest or largest learning rate tried, of how many.
        against: what others reach without its pre-training; None without a rank.
        badge: what was verified of the results; None if they are as claimed.
        prediction: what a prediction costs; None if no record says.
        confirmed: what second measurements say of the results.
        uncertainty: of score and rank; None without a score.
    """

    model: str
    rank: int | None
    score: float | None
    gain: float | None
    saving: MeanFactor | None
    train_seconds: float
    scratch_seconds: float
    parameters: tuple[int, ...]
    devices: tuple[str, ...]
    under_trained: bool
    reason: str
    diverged: bool
    coefficients: CoefficientUse | None = None
    open_searches: tuple[tuple[str, int, int], ...] = ()
    against: Comparison | None = None
    badge: Badge | None = None
    prediction: Prediction | None = None
    confirmed: Confirmed = field(default_factory=Confirmed)
    uncertainty: Uncertainty | None = None


@dataclass(frozen=True)
class SuiteResults:
    """All records of one suite, version and profile.

    Args:
        planned: the cells that make a model complete.
        from_suite: whether they are the suite's plan, not the union over all models.
    """

    suite: str
    suite_version: int
    profile: str
    records: tuple[Record, ...]
    planned: frozenset[Cell]
    from_suite: bool

    def key(self, model: str) -> tuple[str, int, str, str]:
        """Return what names the results of a model: suite, version, profile and model."""
        return (self.suite, self.suite_version, self.profile, model)

    @cached_property
    def points(self) -> list[Record]:
        """The points. The later of two at one cell counts."""
        return list({record.place: record for record in self.records if record.kind == "point"}.values())

    @cached_property
    def planned_points(self) -> list[Record]:
        """The points at planned cells."""
        return [record for record in self.points if record.cell in self.planned]


def group(records: Iterable[Record], rules: Rules = NO_RULES) -> list[SuiteResults]:
    """Split records by suite, profile and version, newest version first.

    If a plan is unknown, the cells of all models together count as planned.
    """
    found = grouped(records, lambda record: (record.suite, record.profile, -record.suite_version))
    groups = []
    for (suite, profile, version), members in sorted(found.items()):
        cells = rules.planned(suite, -version, profile)
        union = {record.cell for record in members if record.kind == "point"}
        expected = frozenset(union if cells is None else cells)
        groups.append(SuiteResults(suite, -version, profile, tuple(members), expected, cells is not None))
    return groups


def standings(
    group: SuiteResults,
    verified: Verified | None = None,
    confirmations: Confirmations = NONE,
    errors: Errors | None = None,
) -> list[Standing]:
    """Rank the models: complete ones by score, then incomplete ones, then those that diverged.

    Without the suite's plan there are scores but no ranks. Otherwise one more cell of one model would take the rank
    from all others. Verified models come first, and others are not ranked beside them; if none is verified, all are
    ranked as they claim.

    Args:
        verified: the badges that hold.
        errors: of the test examples, by job id, as far as they are kept.
    """
    found = [
        replace(
            _standing(group, model),
            badge=(verified or {}).get(group.key(model)),
            confirmed=confirmations.summary(record for record in group.records if record.model == model),
        )
        for model in sorted({record.model for record in group.records}, key=natural)
    ]
    some = any(one.badge is not None for one in found)
    found.sort(key=lambda s: (s.diverged, s.score is None, some and s.badge is None, s.score or 0.0))
    scored = {one.model: one.score for one in found if one.score is not None}
    ranked = [one.model for one in found if one.model in scored and group.from_suite and (one.badge or not some)]
    scores = [scored[model] for model in ranked]
    ranks = {model: 1 + scores.index(scored[model]) for model in ranked}  # equal scores share the better rank
    references = References(group.planned_points, ranks)
    sure = uncertainties((r for r in group.planned_points if r.model in scored), ranks, errors or {})
    return [
        replace(
            one,
            rank=ranks.get(one.model),
            against=references.compare([r for r in group.planned_points if r.model == one.model])
            if one.model in ranks
            else None,
            uncertainty=sure.get(one.model),
        )
        for one in found
    ]


def _standing(group: SuiteResults, model: str) -> Standing:
    records = [record for record in group.records if record.model == model]
    reason, diverged = _obstacle(group, model)
    planned = [] if reason else [record for record in group.planned_points if record.model == model]
    curves = {(task, arm): curve for (_, task, arm), curve in make_curves(planned).items()}
    scored = [point.median for (_, arm), curve in curves.items() if arm in SCORED for point in curve.points]
    if not reason and not scored:
        reason = f"the suite has none of the scored arms, {' and '.join(SCORED)}"
    gains: list[float] = []
    saved: list[Saving] = []
    for (task, arm), scratch in curves.items():
        if arm == SCRATCH and (tuned := curves.get((task, FINE_TUNE))) is not None:
            pairs = [(theirs, tuned.point(theirs.examples)) for theirs in scratch.trained]
            gains += [theirs.median / ours.median for theirs, ours in pairs if ours is not None]
            saved += savings(tuned, scratch, intervals=False)
    return Standing(
        model=model,
        rank=None,
        score=geometric_mean(scored),
        gain=geometric_mean(gains) if scored else None,
        saving=mean_factor(saved) if scored else None,
        train_seconds=_seconds(r for r in records if r.kind == "pretraining" or r.protocol in SCORED),
        scratch_seconds=_seconds(r for r in records if r.kind == "point" and r.protocol not in SCORED),
        parameters=tuple(sorted({r.parameters for r in records if r.parameters is not None})),
        devices=tuple(sorted({r.device for r in records if r.device})),
        under_trained=any(r.under_trained for r in records),
        reason=reason,
        diverged=diverged,
        prediction=Prediction.of(r for r in records if r.kind == "point"),
        open_searches=_open_searches(r for r in records if r.kind == "pretraining" or r.cell in group.planned),
        coefficients=coefficient_use((r for r in group.points if r.model == model), group.planned),
    )


def _open_searches(records: Iterable[Record]) -> tuple[tuple[str, int, int], ...]:
    """Count the points whose chosen learning rate is at an end of those tried, by arm."""
    states: dict[str, list[bool]] = {}
    for record in records:
        if (state := record.searched) is not None:
            states.setdefault(record.protocol, []).append(state != "closed")
    return tuple((arm, sum(found), len(found)) for arm, found in sorted(states.items(), key=lambda s: arm_order(s[0])))


def _obstacle(group: SuiteResults, model: str) -> tuple[str, bool]:
    """Return why a model cannot be ranked, empty if it can, and whether it diverged."""
    mine = {record.cell: record for record in group.points if record.model == model}
    bad = [record for cell, record in mine.items() if cell in group.planned and record.status != "ok"]
    counts = Counter(record.status for record in bad)
    missing = sorted(group.planned - set(mine))
    parts = []
    for status in ("diverged", "failed", "unsupported"):
        if counts[status]:
            worst = min((record for record in bad if record.status == status), key=lambda record: record.cell)
            parts.append(f"{counted(counts[status], 'cell')} {status} ({worst.cell}: {worst.reason})")
    if foreign := {record.own_weights for record in mine.values()} - {""}:
        parts.append(f"starts from weights of the user's own (SHA-256 {', '.join(sorted(foreign))[:12]}…)")
    if missing:
        parts.append(f"{counted(len(missing), 'cell')} missing (first: {missing[0]})")
    return "; ".join(parts), counts["diverged"] > 0


def _seconds(records: Iterable[Record]) -> float:
    """Add up training time. A job that several cells share counts once."""
    spent: dict[str, float] = {}
    for record in records:
        if record.trials:
            spent.update({trial.job_id: trial.train_seconds for trial in record.trials})
        else:
            spent[record.job_id] = record.train_seconds
    return math.fsum(spent.values())
