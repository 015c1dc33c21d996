"""What a record must be to enter the leaderboard, beyond being well formed.

Many wrong records contradict themselves or each other: a learning rate that was not the best of its trials, an interval
that misses its own score, a pre-training without a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pdebench_fm._util.identity import canonical_json
from pdebench_fm._util.text import printable
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.protocol import ProtocolSpec
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH
from pdebench_fm.records.description import DescribedPlugin, DescribedPoint
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.records.search import Tried, next_value
from pdebench_fm.records.solver import SolverRecord

LARGEST = 1e6
"""Largest error that counts as a score. Predicting zero scores 1; anything larger than this has diverged."""

LONGEST = 1e9
"""Seconds that a fit may take: 30 years."""

_MARKS = "._,=+[]-"
_MODEL_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9{re.escape(_MARKS)}]*")

FASTEST = 1e17
"""Floating-point operations a second beyond which no single device goes."""

SHORTEST = 1e-9
"""Seconds within which nothing is predicted."""

LARGEST_MEMORY = 2**50
"""Bytes of memory that one process may have: a pebibyte."""

Located = tuple[str, Record]
"""``file:line`` of a record, and the record."""


def _unknown(suite: str, version: int, profile: str) -> None:
    """No plan is known."""


@dataclass(frozen=True)
class Rules:
    """What a leaderboard holds its records to, beside what they say themselves.

    Args:
        planned: (suite, version, profile) → every planned cell; None if the plan is unknown.
        verify: yields (where, what) for records that are not what they say, see `pdebench_fm.leaderboard.plans`.
        check_solvers: yields what is wrong with solver records, see `pdebench_fm.leaderboard.solvers`.
    """

    planned: Callable[[str, int, str], Collection[Cell] | None] = _unknown
    verify: Callable[[Sequence[Located]], Iterable[tuple[str, str]]] = lambda located: ()
    check_solvers: Callable[[Sequence[tuple[str, SolverRecord]]], Iterable[str]] = lambda located: ()


NO_RULES = Rules()


def problems(record: Record) -> Iterator[str]:
    """Yield what is wrong with a record on its own, one line each."""
    if record.status == "ok":
        if SCORE not in record.metrics:
            yield f"metrics has no {SCORE}"
        else:
            yield from _score_problems(record)
        if record.test_examples == 0:
            yield "test_examples is 0, yet there are metrics"
    yield from _choice_problems(record)
    yield from _search_problems(record)
    yield from _effort_problems(record)
    yield from _cost_problems(record)
    if not _MODEL_NAME.fullmatch(record.model):
        yield f"model: must be ASCII letters, digits and {_MARKS}, first a letter or digit, got {record.model!r}"
    yield from _description_problems(record)
    ids = [trial.job_id for trial in record.trials]
    if len(set(ids)) < len(ids):
        yield "trials: a trial is listed twice"


def _score_problems(record: Record) -> Iterator[str]:
    score = record.metrics[SCORE]
    if not 0 < score <= LARGEST:
        yield f"{SCORE}: must be above 0 and at most {LARGEST:g}, got {score:g}"
    if SCORE not in record.interval:
        yield f"interval has no {SCORE}"
        return
    low, high = record.interval[SCORE]
    if not low * (1 - 1e-6) <= score <= high * (1 + 1e-6):  # a bootstrap of equal values differs by rounding
        yield f"{SCORE} {score:g} lies outside its own interval [{low:g}, {high:g}]"
    elif not _plausible((low, high), score, record.test_examples):
        yield f"interval.{SCORE}: [{low:g}, {high:g}] cannot be that of {record.test_examples} errors of mean {score:g}"


def _plausible(interval: tuple[float, float], score: float, examples: int) -> bool:
    """Whether an interval may be that of a mean of positive errors: no resample exceeds all errors on one example."""
    low, high = interval
    collapsed = low == high and examples > 1 and score != 1  # predicting zero has the error 1 on every example
    return examples == 0 or (low > 0 and high <= examples * score * (1 + 1e-6) and not collapsed)


def _effort_problems(record: Record) -> Iterator[str]:
    """Check the work that a record claims against its budget, its trials, and what is possible."""
    for number, trial in enumerate(record.trials):
        if trial.best_epoch > trial.epochs:
            yield f"trials.{number}.best_epoch: must be at most its epochs, {trial.epochs}, got {trial.best_epoch}"
        for unit in ("epochs", "steps"):
            most, done = getattr(record.budget, unit, None), getattr(trial, unit)
            if most is not None and done > most:
                yield f"trials.{number}.{unit}: must be at most the budget, {most}, got {done}"
    seconds = [record.train_seconds, record.data_seconds, *(trial.train_seconds for trial in record.trials)]
    if max(seconds) > LONGEST:
        yield f"train_seconds: must be at most {LONGEST:g}, got {max(seconds):g}"
    if record.data_seconds > record.train_seconds * 1.001 + 0.01:
        yield f"data_seconds: must be at most train_seconds, {record.train_seconds:g}, got {record.data_seconds:g}"
    tried = [trial for trial in record.trials if trial.validation is not None]
    if record.status != "ok" or not tried:
        return
    best = min(tried, key=lambda trial: trial.validation or 0.0)
    for name in ("epochs", "steps", "train_seconds"):
        if getattr(record, name) != getattr(best, name):
            yield f"{name}: must be that of its best trial, {getattr(best, name):g}, got {getattr(record, name):g}"


def _cost_problems(record: Record) -> Iterator[str]:
    """Check that what a prediction costs is possible."""
    memory, least = record.peak_memory, record.parameters or 0
    if memory is not None and not max(least, 1) <= memory <= LARGEST_MEMORY:
        yield f"peak_memory: must hold the {least} parameters and be at most {LARGEST_MEMORY}, got {memory}"
    seconds, batch = record.inference_seconds, record.inference_batch
    if seconds is None or batch is None:
        return
    if batch > record.test_examples:
        yield f"inference_batch: must be at most test_examples, {record.test_examples}, got {batch}"
    shortest = max(SHORTEST, (record.flops or 0) / FASTEST)
    if not shortest <= seconds <= LONGEST:
        yield f"inference_seconds: must be from {shortest:.2g} to {LONGEST:g}, got {seconds:g}"


def _choice_problems(record: Record) -> Iterator[str]:
    """Check that the point was scored with its best trial."""
    errors = [(t.validation, t.hyperparameters.get("learning_rate")) for t in record.trials if t.validation is not None]
    if record.status == "ok" and record.trials and not errors:
        yield "status is ok, yet none of its trials is"
        return
    if record.status == "ok" and any(trial.status not in ("ok", "diverged") for trial in record.trials):
        yield "status is ok, yet a trial has failed: fewer were tried than for the others"
    if record.status != "ok" or not errors:
        return
    best = min(error for error, _ in errors)
    chosen = [rate for error, rate in errors if error == best]
    if record.learning_rate not in chosen:
        yield f"learning_rate: must be that of its best trial, {chosen[0]}, got {record.learning_rate}"


def _search_problems(record: Record) -> Iterator[str]:
    """Check that a search went on for as long as its rule says, and tried the values that follow from it."""
    if record.status != "ok":
        return
    planned, cap = record.described.trials, record.described.extend
    tried = [Tried(trial.hyperparameters, trial.validation) for trial in record.trials]
    for number in range(len(planned), len(tried)):
        expected = next_value(tried[:number]) if number < len(planned) + cap else None
        if expected != tried[number].hyperparameters:
            yield f"trials.{number}: the search would {_go_on(expected)}, got {tried[number].hyperparameters}"
            return
    if len(tried) < len(planned) + cap and (missing := next_value(tried)) is not None:
        yield f"trials: the search would {_go_on(missing)}"


def _go_on(value: Mapping[str, float] | None) -> str:
    return "end here" if value is None else f"go on with {dict(value)}"


def _description_problems(record: Record) -> Iterator[str]:
    """Check that the record agrees with the description of its job."""
    for name, stated, said in _described(record, record.described):
        if stated != said:
            yield f"{name} is {stated!r}, its job says {said!r}"


def _described(record: Record, job: DescribedPoint) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a record and the description of its job say of the same thing: its name, both values."""
    yield "model_args", record.model_args, job.model.arguments
    yield "protocol", record.protocol, _arm(job.protocol, record.protocol)
    yield "examples", record.examples, job.train.count
    yield "seed", record.seed, job.seed
    yield "precision", record.precision, job.precision
    # A pre-training that no job needs is not planned.
    if record.status != "unsupported" or record.pretrain_job_id is not None:
        yield "pretrain_job_id", record.pretrain_job_id, job.start.job
    if record.trials or record.status == "ok":
        yield "trials", [trial.job_id for trial in record.trials[: len(job.trials)]], job.trials
    if record.status == "ok":
        yield "test_examples", record.test_examples, job.test.count
    for part in (*job.train.sets, *job.test.sets):
        yield "data_seed", record.data_seed, record.data_seed if part.data_seed is None else part.data_seed


def _arm(protocol: DescribedPlugin, stated: str) -> str:
    """Return the arm's name, with those of its arguments that a suite has given by what the record states."""
    places = {name: stated.find(f"{name}=") for name in protocol.arguments}
    given = sorted((name for name, place in places.items() if place > 0), key=places.__getitem__)
    arguments = {name: protocol.arguments[name] for name in given}
    return ProtocolSpec(protocol.name, protocol.version, given=arguments).label


def _table(record: Record) -> tuple[str, int, str]:
    return (record.suite, record.suite_version, record.profile)


_Fact = tuple[str, object, Any, str]
"""Name, key of the records that must agree on it, value, and why they must agree."""


def conflicts(records: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that are not comparable with an earlier one."""
    yield from repeated(records)
    scored = [(where, record) for where, record in records if record.status == "ok"]
    trained = {(*_table(r), r.model, r.job_id) for _, r in scored if r.kind == "pretraining"}
    for where, record in scored:
        parent = record.pretrain_job_id
        if parent is not None and (*_table(record), record.model, parent) not in trained:
            yield where, f"its pre-training {parent[:12]}… has no record that is ok on this suite; add that too"
    yield from disagreements(records)


def _comparable(record: Record) -> Iterator[_Fact]:
    """Yield what must agree for records to be comparable."""
    table, place = _table(record), (record.kind, record.task)
    yield "data_seed", table, record.data_seed, "scores of different data are not comparable"
    if record.status == "ok":
        yield "test_examples", (table, place), record.test_examples, "scores over different test sets do not compare"
    yield "model_args", (table, record.model), record.model_args, "another configuration needs a name of its own"
    yield "under_trained", table, record.under_trained, "it is a property of the profile"
    yield "shift", (record.suite, record.suite_version, place), record.shift, "it is a property of the task"
    yield "model", (table, record.model.casefold()), record.model, "on some systems both names are one file"
    yield "job_id", record.place, record.job_id, "use `leaderboard add --replace` for a model's next version"
    if record.protocol in (FINE_TUNE, SCRATCH) and (planned := record.described.trials):
        yield "trials", (table, record.model), len(planned), "every arm has the same tuning budget"


def repeated(records: Iterable[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that are there twice."""
    places: dict[object, str] = {}
    for where, record in records:
        first = places.setdefault(record.key, where)
        if first != where:
            yield where, f"the same job is at {first}; remove one line"


def _settings(record: Record) -> Iterator[_Fact]:
    """Yield the settings of a record. Editing a suite without a new version leaves records with different ones."""
    job = record.described
    start = job.start.plain()
    place, arm = (record.kind, record.task), (record.model, record.protocol)
    found: list[tuple[str, object, Any]] = [
        ("precision", record.model, record.precision),
        ("job.training", None, job.training),
        ("job.selection", None, job.selection.plain()),
        ("job.model", record.model, job.model.plain()),
        ("job.protocol", record.protocol, job.protocol.plain()),
        ("job.test", place, job.test.plain()),
        ("job.start.from", arm, job.start.source),
        ("job.start", (*arm, record.task), start),
    ]
    if record.examples > 0:  # without examples there is no pool
        found.append(("job.train.sets", place, job.train.plain_sets()))
    if weights := record.own_weights:
        found.append(("job.start.sha256", record.model, weights))
    if record.budget is not None:  # fine-tuning and scratch share one, every other arm has its own
        shared = SCRATCH if record.protocol == FINE_TUNE else record.protocol
        found.append(("budget", shared, record.budget.model_dump()))
    if record.trials:
        found.append(("job.extend", None, job.extend))
        tried = [trial.hyperparameters for trial in record.trials if trial.job_id in job.trials]
        found.append(("trials.hyperparameters", arm, sorted(tried, key=canonical_json)))
        if record.validation_examples is not None:
            found.append(("validation_examples", place, record.validation_examples))
    for name, depends, value in found:
        yield name, (_table(record), depends), value, "a suite, version and profile has one set of settings"


def disagreements(records: Iterable[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for the first two records of a suite and profile that disagree on a fact."""
    first: dict[object, tuple[str, Any]] = {}
    named = set()
    for where, record in records:
        for name, key, value, why in (*_comparable(record), *_settings(record)):
            at, leader = first.setdefault((name, key), (where, value))
            if value != leader and (name, _table(record)) not in named:
                named.add((name, _table(record)))
                path, ours, theirs = _difference(value, leader)
                what = ".".join((name, *path))
                yield (
                    where,
                    f"{what} {printable(str(ours), 60)} differs from {printable(str(theirs), 60)} at {at}: {why}",
                )


def _difference(one: Any, other: Any) -> tuple[list[str], Any, Any]:
    """Return the keys that lead to the first difference between two pieces of plain data, and both values."""
    keys: Iterable[Any] = ()
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in sorted({*one, *other}) if key in one and key in other]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        keys = range(len(one))
    for key in keys:
        if one[key] != other[key]:
            path, ours, theirs = _difference(one[key], other[key])
            return [str(key), *path], ours, theirs
    return [], one, other


def refusals(records: Iterable[Located], rules: Rules) -> list[str]:
    """Return everything that is wrong with these records together, as ``file:line: what``."""
    located = list(records)
    found = [f"{where}: {problem}" for where, record in located for problem in problems(record)]
    found += [f"{where}: {conflict}" for where, conflict in conflicts(located)]
    return found or [f"{where}: {problem}" for where, problem in rules.verify(located)]
