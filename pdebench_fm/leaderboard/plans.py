"""Check that the jobs of records are those that their suite plans.

A record's ``job`` says what was computed, and its id cannot be forged. Whether the suite asks for it, only the plan can
say: it is made again if this version of the suite is known. For a model that is not installed, only data and few-shot
choice are compared, with the plan of any installed model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pdebench_fm._util.grouping import grouped
from pdebench_fm.errors import PdefmError, UnsupportedError, UsageError
from pdebench_fm.leaderboard.audit import Located
from pdebench_fm.leaderboard.recompute import Recomputed
from pdebench_fm.plan.model import ModelSpec, model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import expected_rows
from pdebench_fm.records.description import DescribedPoint
from pdebench_fm.records.record import Record
from pdebench_fm.registry import Registry, registry
from pdebench_fm.scoring.shift import RealisedShift
from pdebench_fm.suite.reading import find_suite
from pdebench_fm.suite.scale import MOST_SEEDS
from pdebench_fm.suite.schema import Suite


def against_plans(
    located: Sequence[Located], found: Registry | None = None, suites: Sequence[Suite] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records whose job is not the one that their suite plans.

    Args:
        found: models and suites; by default those that are installed.
        suites: suites that take precedence over registered ones of the same name and version.
    """
    found = found or registry()
    shift = RealisedShift(found)
    groups = grouped(located, lambda one: planned_together(one[1]))
    for (name, version, profile, model, precision), group in groups.items():
        suite = find_suite(name, version, found, suites)
        if suite is None or profile not in suite.profiles:
            continue
        list(expected_rows(suite, profile, found))  # fails if a protocol is broken: then no plan is known
        seeds = 1 + max((record.seed for _, record in group if record.seed < MOST_SEEDS), default=0)
        spec = spec_of(found, model, [record for _, record in group])
        specs = [spec] if spec else filter(None, (spec_of(found, other) for other in found.names("models")))
        planned = _planned(found, suite, profile, precision, seeds, specs, shift)
        for where, record in group:
            yield from ((where, what) for what in _problems(record, suite, spec, planned))


def planned_together(record: Record) -> tuple[str, int, str, str, str]:
    """Return the key of records that have one plan."""
    return (record.suite, record.suite_version, record.profile, record.model, record.precision)


def spec_of(found: Registry, model: str, records: Sequence[Record] = ()) -> ModelSpec | None:
    """Return an installed model, or the variant of it that records planned together describe."""
    try:
        return variant_of(found, records) if records else model_spec(found, model)
    except PdefmError:
        return None


def variant_of(found: Registry, records: Sequence[Record], local: Mapping[str, Any] | None = None) -> ModelSpec:
    """Return the variant of a model that records planned together describe, by its name in a run.

    Args:
        local: arguments that records do not keep, e.g. where the files of a released model are.

    Raises:
        UsageError: such an argument has a default, and the records were made with another value.
    """
    first = records[0]
    variant = model_spec(found, first.model.partition(",")[0], {**first.model_args, **(local or {})})
    if variant.local and not local and first.described.model.fingerprint != variant.fingerprint:
        names = " ".join(f"--set {name}=PATH" for name in sorted(variant.local))
        raise UsageError(f"{first.model!r} was run with other files than the default: give {names}")
    return variant.in_run(first.precision, weights_of(records))


def weights_of(records: Iterable[Record]) -> str:
    """Return the SHA-256 of the user's weights that the first of these records started from; empty if none did."""
    return next((record.own_weights for record in records if record.own_weights), "")


def misnamed(spec: ModelSpec, record: Record) -> str:
    """Say what a record of this model must be called; empty if it is."""
    own = record.own_weights  # training from scratch starts from no weights, but is in the run that has them
    name = spec.in_run(record.precision, own).name if own else spec.name
    # The folder of released weights may have another name here; the fingerprint beside it is what counts.
    folder = re.compile(rf"=[^,=]*-{spec.fingerprint[:8]}(?=,|$)")
    if name == record.model or (spec.local and folder.sub("", name) == folder.sub("", record.model)):
        return ""
    return f"model: must be {name!r}, as its arguments, precision and weights say, got {record.model!r}"


def _planned(
    found: Registry,
    suite: Suite,
    profile: str,
    precision: str,
    seeds: int,
    specs: Iterable[ModelSpec],
    shift: RealisedShift,
) -> Recomputed | UnsupportedError | None:
    """Plan the suite for the first model that can take it.

    Returns the refusal if none can take it, and None if no plan can be made, e.g. because data files are missing.
    """
    refusal: UnsupportedError | None = None
    for spec in specs:
        try:
            return Recomputed(make_plan(suite, profile, spec, found, seeds=seeds, precision=precision), shift)
        except UnsupportedError as error:
            refusal = error
        except PdefmError:
            pass
    return refusal


def _problems(
    record: Record, suite: Suite, spec: ModelSpec | None, planned: Recomputed | UnsupportedError | None
) -> Iterator[str]:
    """Yield how a record differs from what its suite plans."""
    name = f"{suite.name} v{suite.version}"
    if spec is not None and spec.lasting_arguments != record.model_args:
        yield f"model_args are not those of {record.model!r}; a --set variant has a name of its own"
        return
    if spec is not None and (wrong := misnamed(spec, record)):
        yield wrong
        return
    yield from _differs_from_suite(suite, record)
    if isinstance(planned, UnsupportedError) and spec is not None and record.status == "ok":
        yield f"{record.model!r} as installed here cannot take {suite.name}, profile {record.profile}"
    if not isinstance(planned, Recomputed):
        return
    row = planned.rows.get((record.kind, record.task, record.protocol, record.examples, record.seed))
    if row is None:
        yield f"{name} plans no such {record.kind}"
    elif spec is not None and record.status == "ok" and row.unsupported:
        yield f"{record.model!r} as installed here cannot take this: {row.unsupported}"
    elif _data(record.described) != _data(DescribedPoint.model_validate(row.job.describe())):
        yield f"its data are not those of {name}, profile {record.profile}"
    elif spec is not None and not record.own_weights and record.job_id != row.job.id:
        yield f"its job is not what {name} plans with the versions installed here"
    else:
        yield from planned.of_any_model(record, row)
        if spec is not None and record.job_id == row.job.id:
            yield from planned.of_this_model(record, row)


def _differs_from_suite(suite: Suite, record: Record) -> Iterator[str]:
    """Yield what the record repeats of its suite, if it differs."""
    planned, stated = suite.profiles[record.profile].extend, record.described.extend
    if record.trials and stated != planned:
        yield f"job.extend: must be {planned}, as in {suite.name} v{suite.version}, got {stated}"
    under_trained = suite.profiles[record.profile].under_trained
    if under_trained != record.under_trained:
        yield f"under_trained: must be {under_trained}, as in {suite.name} v{suite.version}, got {record.under_trained}"
    for task in suite.tasks_at(suite.profiles[record.profile]):
        if record.kind == "point" and task.name == record.task and task.shift != record.shift:
            yield f"shift: must be {task.shift!r}, as in {suite.name} v{suite.version}, got {record.shift!r}"


def _data(job: DescribedPoint) -> tuple[object, ...]:
    """Return what a job says of its examples."""
    return job.train, job.test, job.seed
