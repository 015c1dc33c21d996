"""Numerical solvers on a leaderboard: measured, kept in ``solvers/<suite>/<profile>.jsonl``, checked, and shown.

They use the equation, so they are not ranked. A study shows those whose test examples are the ones of its records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pdebench_fm._util.grouping import grouped
from pdebench_fm.errors import UnsupportedError
from pdebench_fm.leaderboard.audit import LARGEST, LONGEST, SHORTEST
from pdebench_fm.leaderboard.lines import contents, misplaced, read
from pdebench_fm.leaderboard.standing import SuiteResults
from pdebench_fm.leaderboard.store import write_files
from pdebench_fm.plan.sets import ProfileSets
from pdebench_fm.records.savings import geometric_mean
from pdebench_fm.records.solver import SolverRecord
from pdebench_fm.registry import Registry
from pdebench_fm.scoring.solvers import measure_solver
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.schema import Suite
from pdebench_fm.tables.wording import natural

FOLDER = "solvers"


def write_solvers(directory: Path, records: Iterable[SolverRecord]) -> list[Path]:
    """Add records to a leaderboard; each replaces an earlier one of the same task and solver."""
    known = {record.place: record for _, record in read(directory / FOLDER, SolverRecord)}
    new = {record.place: record for record in records}
    files = contents(directory, (known | new).values(), _place)
    written = sorted({directory / _place(record)[0] for record in new.values()})
    write_files({path: files[path] for path in written})
    return written


def _place(record: SolverRecord) -> tuple[Path, Any]:
    return Path(FOLDER, record.suite, f"{record.profile}.jsonl"), (natural(record.task), natural(record.solver))


def measure_solvers(
    suite: Suite,
    profile: str,
    registry: Registry,
    names: Sequence[str],
    examples: int | None,
    provenance: Mapping[str, Any],
) -> Iterator[SolverRecord | str]:
    """Measure solvers on the test examples of every task of a suite.

    Args:
        examples: solve only the first ones of each task.
        provenance: device, threads and versions of this process.

    Yields:
        a record, or one line if a solver cannot solve a task.
    """
    scale = suite.profile(profile)
    sets = ProfileSets(suite, scale, registry)
    entries = [registry.get("solvers", name) for name in names]
    software = {name: provenance["versions"][name] for name in ("pdebench_fm", "python", "torch", "numpy")}
    for task in suite.tasks_at(scale):
        test = sets.downstream(task)["test"]
        for entry in entries:
            if len(test) != 1:
                yield f"{entry.name} on {task.name}: mixed test examples have no single system"
                continue
            try:
                measured = measure_solver(entry, test[0], registry, examples)
            except UnsupportedError as error:
                yield f"{entry.name} on {task.name}: {error}"
                continue
            stated = {
                "schema": 1,
                "suite": suite.name,
                "profile": profile,
                "task": task.name,
                "solver": entry.name,
                "version": entry.version,
                "test": [dict(spec.description) for spec in test],
                "inference_device": f"{provenance['device']}, threads: {provenance['threads']}",
                "versions": software,
            }
            yield SolverRecord.model_validate({**stated, **measured}, strict=False)


def solver_problems(
    located: Sequence[tuple[str, SolverRecord]], directory: Path, registry: Registry, own: Sequence[Suite] = ()
) -> Iterator[str]:
    """Yield what is wrong with solver records, as ``file:line: what``.

    Compared are place and order, the test examples with what the suite plans, version and arguments with the registered
    solver, and numbers with what is possible.
    """
    named = {record.suite for _, record in located} & {*registry.names("suites")}
    suites = [*own, *(load_suite(name, registry) for name in sorted(named))]
    yield from misplaced(directory, FOLDER, located, _place)
    for where, record in located:
        if record.error > LARGEST:
            yield f"{where}: error: must be at most {LARGEST:g}, got {record.error:g}"
        if not SHORTEST <= record.inference_seconds <= LONGEST:
            seconds = record.inference_seconds
            yield f"{where}: inference_seconds: must be from {SHORTEST:g} to {LONGEST:g}, got {seconds:g}"
        yield from (f"{where}: {what}" for what in _against_plan(record, registry, suites))


def _against_plan(record: SolverRecord, registry: Registry, suites: Sequence[Suite]) -> Iterator[str]:
    if record.solver in registry.names("solvers"):
        entry = registry.get("solvers", record.solver)
        if entry.version != record.version:
            yield f"version: {record.solver} is version {entry.version} here, got {record.version}"
        if any(record.arguments.get(name) != value for name, value in entry.arguments.items()):
            yield f"arguments: must be those of {record.solver}, {dict(entry.arguments)}, got {record.arguments}"
    known = [suite for suite in suites if suite.name == record.suite and record.profile in suite.profiles]
    if not known:
        yield f"suite: {record.suite} with profile {record.profile} is not installed; name a --suite"
        return
    planned = [description for suite in known for description in _tests(suite, record, registry)]
    if not planned:
        yield f"task: {record.suite} has no task {record.task!r}"
    elif list(record.test) not in planned:
        yield f"test: these examples are not those of {record.task!r} in {record.suite}, profile {record.profile}"


def _tests(suite: Suite, record: SolverRecord, registry: Registry) -> Iterator[list[dict[str, Any]]]:
    """Yield the description of the test examples of a record's task."""
    scale = suite.profile(record.profile)
    for task in suite.tasks_at(scale):
        if task.name == record.task:
            yield [dict(spec.description) for spec in ProfileSets(suite, scale, registry).downstream(task)["test"]]


@dataclass(frozen=True)
class SolverStanding:
    """One solver on all tasks of a study.

    Args:
        error: geometric mean over the tasks of the relative L2 error; None if the solver lacks a task.
        seconds: median over the tasks of the time for one example.
        records: one for each task.
    """

    solver: str
    error: float | None
    seconds: float
    records: tuple[SolverRecord, ...]


def solvers_of(found: SuiteResults, solvers: Iterable[SolverRecord]) -> list[SolverStanding]:
    """Return the solvers that were measured on the test examples of a study, the most accurate first."""
    tests = {record.task: record.described.test.plain_sets() for record in found.points}
    mine = [record for record in solvers if (record.suite, record.profile) == (found.suite, found.profile)]
    same = (record for record in mine if tests.get(record.task) == [*record.test])
    standings = []
    for solver, records in grouped(same, lambda record: record.solver).items():
        errors = [record.error for record in records]
        mean = 0.0 if min(errors) == 0 else geometric_mean(errors)
        complete = {record.task for record in records} == tests.keys()
        seconds = median(record.inference_seconds for record in records)
        standings.append(SolverStanding(solver, mean if complete else None, seconds, tuple(records)))
    return sorted(standings, key=lambda one: (one.error is None, one.error or 0.0, natural(one.solver)))
