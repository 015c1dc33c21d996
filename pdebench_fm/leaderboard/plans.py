"""Whether records are of the suite they name: their jobs must be those that the suite plans.

A record's ``job`` says what was computed, and its id cannot be forged; what it cannot say is that this is what the
suite asks for. So the plan is made again and compared, where the suite (in that version) is installed. Where the model
is not installed, its data and few-shot choice are compared with those that any installed model is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pdebench_fm.errors import PdefmError, UnsupportedError
from pdebench_fm.leaderboard.audit import Located
from pdebench_fm.plan.model import ModelSpec, model_spec
from pdebench_fm.plan.plan import PlannedRow
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import expected_rows
from pdebench_fm.records.record import Record, start_of
from pdebench_fm.registry import Registry, registry
from pdebench_fm.suite.reading import find_suite
from pdebench_fm.suite.schema import MOST_SEEDS, Suite

_Place = tuple[str, str, str, int, int]
_Rows = Mapping[_Place, PlannedRow]


def against_plans(
    located: Sequence[Located], found: Registry | None = None, suites: Sequence[Suite] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records whose job is not the one their suite plans at that place.

    Args:
        located: all records that will stand side by side.
        found: where models and suites come from; what is installed where None.
        suites: more suites; these go before registered ones of the same name and version.
    """
    checker = _Checker(found or registry(), suites)
    for where, record in located:
        for what in checker.problems(record, [other for _, other in located]):
            yield where, what


class _Checker:
    """Remembers plans, which take a second each."""

    def __init__(self, found: Registry, suites: Sequence[Suite] = ()) -> None:
        self._registry = found
        self._own = suites
        self._suites: dict[tuple[str, int], Suite | None] = {}
        self._plans: dict[tuple[Any, ...], Mapping[_Place, PlannedRow] | None] = {}

    def problems(self, record: Record, others: Iterable[Record]) -> Iterator[str]:
        suite = self._suite(record)
        if suite is None or record.profile not in suite.profiles:
            return
        spec = self._spec(record.model)
        if spec is not None and dict(spec.arguments) != record.model_args:
            yield f"model_args are not those of {record.model!r}; a --set variant needs a registered name of its own"
            return
        possible = (o.seed for o in others if o.suite == record.suite and o.seed < MOST_SEEDS)  # no run has more
        seeds = 1 + max(possible, default=0)
        yield from _said_of_the_suite(suite, record)
        jobs = self._jobs(suite, record, spec or self._stand_in(suite, record), seeds)
        if not jobs:
            if jobs is not None and record.status == "ok":
                yield f"{record.model!r} as it is installed here cannot take {suite.name}, profile {record.profile}"
            return
        row = jobs.get((record.kind, record.task, record.protocol, record.examples, record.seed))
        if row is None:
            yield f"{record.suite} v{record.suite_version} plans no such {record.kind}"
            return
        job = row.job
        if spec is not None and record.status == "ok" and row.unsupported:
            yield f"{record.model!r} as it is installed here cannot take this: {row.unsupported}"
        elif _data(record.job) != _data(job.describe()):
            yield f"its data are not those of {record.suite} v{record.suite_version}, profile {record.profile}"
        elif spec is not None and start_of(record).get("from") != "weights" and record.job_id != job.id:
            yield f"its job is not what {record.suite} v{record.suite_version} plans with the versions installed here"

    def _suite(self, record: Record) -> Suite | None:
        key = (record.suite, record.suite_version)
        if key not in self._suites:
            self._suites[key] = find_suite(*key, self._registry, self._own)
        return self._suites[key]

    def _spec(self, model: str) -> ModelSpec | None:
        try:
            return model_spec(self._registry, model)
        except PdefmError:
            return None

    def _stand_in(self, suite: Suite, record: Record) -> ModelSpec | None:
        """An installed model that can take the suite: data do not depend on the model."""
        for name in self._registry.names("models"):
            spec = self._spec(name)
            if spec is not None and self._jobs(suite, record, spec, 1):
                return spec
        return None

    def _jobs(self, suite: Suite, record: Record, spec: ModelSpec | None, seeds: int) -> _Rows | None:
        """What is planned; nothing for a model that cannot take the suite, None where no plan can be made here."""
        if spec is None:
            return None
        key = (suite.name, suite.version, record.profile, spec.name, record.precision, seeds)
        if key not in self._plans:
            self._plans[key] = None
            # Without a model: a protocol that is broken here is said, a model that cannot take the suite is passed by.
            list(expected_rows(suite, record.profile, self._registry))
            try:
                plan = make_plan(suite, record.profile, spec, self._registry, seeds=seeds, precision=record.precision)
                self._plans[key] = {(r.kind, r.task, r.protocol, r.examples, r.seed): r for r in plan.rows}
            except UnsupportedError:
                self._plans[key] = {}
            except PdefmError:  # its data may not be here
                pass
        return self._plans[key]


def _said_of_the_suite(suite: Suite, record: Record) -> Iterator[str]:
    """What a record repeats of its suite, where it differs."""
    profile = suite.profiles[record.profile]
    shifts = [task.shift for task in suite.tasks if task.name == record.task] if record.kind == "point" else []
    for name, said, stated in (
        ("under_trained", [profile.under_trained], record.under_trained),
        ("shift", shifts, record.shift),
    ):
        if said and said[0] != stated:
            yield f"{name} is {stated!r}, {suite.name} v{suite.version} says {said[0]!r}"


def _data(job: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a job's description says of its examples."""
    return job["train"], job["test"], job["seed"]
