"""Recompute records: the scores of kept weights, or everything from nothing.

A record whose score was lowered together with its interval and its errors contradicts nothing. Only the model itself
can show that it is wrong.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.text import counted
from pdebench_fm.data.hashing import hash_of
from pdebench_fm.errors import SettingError, UnknownNameError, UsageError
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.leaderboard.audit import Located
from pdebench_fm.leaderboard.badges import Badge, Tier
from pdebench_fm.leaderboard.confirmations import RETRAINED, SCORED_AGAIN
from pdebench_fm.leaderboard.plans import misnamed, planned_together, variant_of, weights_of
from pdebench_fm.plan.model import ModelSpec, Weights
from pdebench_fm.plan.plan import Plan, PlannedRow
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.store import JobStore
from pdebench_fm.records.file import collect, file_of, jobs_of
from pdebench_fm.records.record import Record
from pdebench_fm.registry import Registry, registry
from pdebench_fm.run.devices import resolve_device
from pdebench_fm.run.runner import Reporter, run_plan
from pdebench_fm.suite.reading import find_suite
from pdebench_fm.suite.schema import Suite

_KEPT = ("job.json", "result.json", "model", "model.sha256")
"""What a trial's folder holds that scoring needs."""


@dataclass(frozen=True)
class CellCheck:
    """One record, computed again.

    Args:
        where: ``file:line`` of the record.
        again: the score computed again; None if there is none.
        problem: why it is not verified; empty if it is.
    """

    where: str
    record: Record
    again: float | None
    problem: str

    @property
    def difference(self) -> float:
        """Relative difference of the scores; infinite without a new one."""
        return float("inf") if self.again is None else abs(self.again / self.record.metrics[SCORE] - 1)


@dataclass(frozen=True)
class Verification:
    """What was checked of one model on one suite and profile.

    Args:
        badge: what a leaderboard shows if everything agreed.
        checks: one for each cell that could be computed again.
        lacking: why others could not be; empty if there are none.
    """

    badge: Badge
    checks: tuple[CellCheck, ...]
    lacking: str = ""

    @property
    def problems(self) -> list[str]:
        """One line for each record that is not what it says, and one for those that could not be checked."""
        wrong = [f"{check.where}: {check.problem}" for check in self.checks if check.problem]
        return [self.lacking, *wrong] if self.lacking else wrong


def verify(
    runs: Sequence[Path],
    *,
    cells: int | None = None,
    seed: str | None = None,
    retrain: bool = False,
    arguments: Mapping[str, Any] | None = None,
    pretrained: Path | None = None,
    device: str = "auto",
    executor: Executor | None = None,
    reporter: Reporter | None = None,
    suites: Sequence[Suite] = (),
    installed: Registry | None = None,
) -> list[Verification]:
    """Compute the scores of records again and compare.

    Args:
        runs: folders of runs, with the weights that points chose in ``jobs/``. With ``retrain``, records are enough.
        cells: how many records of each model, suite and profile; all by default.
        seed: draws them; a random one by default, which the author of the records cannot know.
        retrain: train again, from nothing.
        arguments: of the model, if its records do not keep them, e.g. ``checkpoint``.
        pretrained: weights that runs with ``--pretrained`` started from.
        executor: where jobs run; in this process by default.
        suites: suites that take precedence over registered ones.
        installed: replaces the registry of installed plugins.
    """
    found = installed or registry()
    scored = [(where, record) for where, record in collect(runs) if record.status == "ok"]
    groups = grouped(scored, lambda one: planned_together(one[1]))
    if not groups:
        raise UsageError("there are no records with scores to verify")
    tier: Tier = "retrained" if retrain else "scored again"
    drawn_by = None if cells is None else seed or secrets.token_hex(8)
    made: list[Verification] = []
    given = None if pretrained is None else Weights(str(pretrained), hash_of(pretrained))
    if given is not None and not any(record.own_weights for _, record in scored):
        raise UsageError("--pretrained: not needed, because no record started from weights that a run was given")
    for records in groups.values():
        group = [record for _, record in records]
        weights = given if given is not None and given.sha256 == weights_of(group) else None
        drawn = _chosen(records, cells, drawn_by)
        chosen = [one for one in drawn if weights is not None or not one[1].own_weights]
        with tempfile.TemporaryDirectory(prefix="pdefm-verify-") as folder:
            spec = _spec(group, found, arguments or {})
            plan = _plan(spec, [record for _, record in drawn], found, suites, Path(folder), device, weights)
            plan = plan.only({_place(record) for _, record in chosen}, ancestors=retrain)
            checks = tuple(_checks(plan, chosen, retrain, executor, reporter))
        largest = min(max((check.difference for check in checks), default=0.0), 1.0)
        badge = Badge.of_records(group, tier, len(checks), largest, plan.device, drawn_by)
        made.append(Verification(badge, checks, _lacking(group, len(drawn) - len(chosen), given)))
    return made


def _lacking(group: Sequence[Record], left_out: int, given: Weights | None) -> str:
    """Say which weights are missing to compute records again that started from them; empty if none are."""
    if not left_out:
        return ""
    first, other = group[0], "" if given is None else f", not {given.sha256[:12]}…"
    return (
        f"{first.suite} v{first.suite_version}, {first.profile}, {first.model}: {counted(left_out, 'record')} started "
        f"from weights with SHA-256 {weights_of(group)[:12]}…{other}; name their file with --pretrained"
    )


def _chosen(records: Sequence[Located], cells: int | None, seed: str | None) -> list[Located]:
    """Return the first records in an order that the seed draws."""
    shuffled = sorted(records, key=lambda one: hashlib.sha256(f"{seed} {one[1].key}".encode()).hexdigest())
    return shuffled[:cells]


def _spec(group: Sequence[Record], found: Registry, arguments: Mapping[str, Any]) -> ModelSpec:
    """Return the model of records; with arguments that they do not keep, only if it is the same model then."""
    first = group[0]
    if known := sorted(arguments.keys() & first.model_args.keys()):
        raise UsageError(f"--set {known[0]}: not needed, because the records of {first.model!r} say it")
    try:
        spec = variant_of(found, group, arguments)
    except UnknownNameError:
        raise UsageError(f"model {first.model!r} is not installed here, so its records cannot be verified") from None
    except SettingError as error:
        raise UsageError(f"{error}; what records do not keep is given with --set KEY=VALUE") from None
    theirs, made = first.described.model.plain(), spec.describe()
    if arguments and theirs != made:
        key = next((key for key in made if made[key] != theirs.get(key)), "fingerprint")
        raise UsageError(
            f"--set: {key} of {first.model!r} must be {theirs.get(key)}, as in its records, got {made.get(key)}"
        )
    return spec


def _plan(
    spec: ModelSpec,
    chosen: Sequence[Record],
    found: Registry,
    suites: Sequence[Suite],
    folder: Path,
    device: str,
    weights: Weights | None,
) -> Plan:
    """Plan the suite with as many seeds as the chosen records need."""
    first = chosen[0]
    suite = find_suite(first.suite, first.suite_version, found, suites)
    if suite is None or first.profile not in suite.profiles:
        raise UsageError(f"{first.suite} v{first.suite_version} has no profile {first.profile} here; name a --suite")
    seeds = 1 + max(record.seed for record in chosen)
    where = resolve_device(device)
    return make_plan(
        suite,
        first.profile,
        spec,
        found,
        output=folder,
        seeds=seeds,
        device=where,
        precision=first.precision,
        weights=weights,
    )


def _checks(
    plan: Plan,
    chosen: Sequence[tuple[str, Record]],
    retrain: bool,
    executor: Executor | None,
    reporter: Reporter | None,
) -> Iterator[CellCheck]:
    rows = {_place(row): row for row in plan.rows}
    if not retrain:
        own = {row.job.id for row in rows.values() if row.place in {_place(record) for _, record in chosen}}
        for where, record in chosen:
            if _place(record) in rows:
                _take_weights(where, record, rows[_place(record)], plan, own)
    result = run_plan(plan, executor=executor, reporter=reporter)
    again = {_place(record): record for record in result.records}
    for where, record in chosen:
        wrong = misnamed(plan.model, record)
        yield (
            CellCheck(where, record, None, wrong)
            if wrong
            else _compared(where, record, again.get(_place(record)), RETRAINED if retrain else SCORED_AGAIN)
        )


def _place(of: Record | PlannedRow) -> tuple[str, str, str, int, int]:
    return (of.kind, of.task, of.protocol, of.examples, of.seed)


def _take_weights(where: str, record: Record, row: PlannedRow, plan: Plan, own: Collection[str]) -> None:
    """Copy the trials of a record, with the weights that it chose, and for zero-shot its pre-training.

    Points that are to be scored again (``own``) are not copied, or their results would be taken over.
    """
    jobs = jobs_of(file_of(where))
    needed = [trial.job_id for trial in record.trials]
    if not needed and row.job.start.job is not None:
        needed = [row.job.start.job, *_trials_of(jobs / row.job.start.job)]
    for job_id in (job_id for job_id in needed if job_id not in own):
        _copy(jobs / job_id, plan.store.folder(job_id))
    if needed and not any((plan.store.model(job_id)).is_dir() for job_id in needed):
        raise UsageError(f"{where}: the weights that it chose are not in {jobs}; give the run's folder, or --retrain")


def _trials_of(folder: Path) -> list[str]:
    found = JobStore(folder.parent.parent).result(folder.name)
    return [] if found is None else list(found["trials"])


def _copy(source: Path, target: Path) -> None:
    for name in _KEPT:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        elif (source / name).is_file():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def _compared(where: str, record: Record, again: Record | None, tolerance: float) -> CellCheck:
    """Compare a record with the one made now."""
    if again is None or again.status != "ok":
        reason = "the suite does not plan it" if again is None else f"now it is {again.status}: {again.reason}"
        return CellCheck(where, record, None, reason)
    return CellCheck(where, record, again.metrics[SCORE], next(_differences(record, again, tolerance), ""))


def _differences(record: Record, again: Record, tolerance: float) -> Iterator[str]:
    """Yield what is another now: job, score, trials, intervals, use of coefficients. Older records lack some."""
    if again.job_id != record.job_id:
        yield f"its job {record.job_id[:12]}… is not the one planned here, {again.job_id[:12]}…"
    was, now = record.metrics[SCORE], again.metrics[SCORE]
    if abs(now / was - 1) > tolerance:
        yield f"{SCORE}: computed again it is {now:.6g}, stated is {was:.6g}"
    for number, (stated, found) in enumerate(zip(record.trials, again.trials, strict=False)):
        if stated.validation is None or found.validation is None:
            continue
        if abs(found.validation / stated.validation - 1) > tolerance if stated.validation else found.validation:
            yield f"trials.{number}.validation: now it is {found.validation:.6g}, stated is {stated.validation:.6g}"
    if len(record.trials) != len(again.trials):
        yield f"trials: now there are {len(again.trials)}, stated are {len(record.trials)}"
    for name in (name for name in record.interval if name in again.interval):
        ends, others = np.array(record.interval[name]), np.array(again.interval[name])
        if np.abs(others - ends).max() > tolerance * np.abs(ends).max():
            shown, expected = (f"[{low:.6g}, {high:.6g}]" for low, high in (others, ends))
            yield f"interval.{name}: now it is {shown}, stated is {expected}"
    rise, risen = record.coefficient_rise, again.coefficient_rise
    # Many are near 0.
    if rise is not None and risen is not None and abs(risen - rise) > tolerance * max(1.0, abs(rise)):
        yield f"coefficient_rise: now it is {risen:.6g}, stated is {rise:.6g}"
