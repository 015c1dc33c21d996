"""What a record must be to enter the leaderboard, beyond being well formed.

A record says enough about itself that many wrong ones give themselves away: a learning rate that was not the best of
its trials, an interval that misses its own score, a pre-training nobody recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pdebench_fm._util.identity import canonical_json
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH
from pdebench_fm.records.record import Record, start_of

LARGEST = 1e6
"""Largest error that counts as a score. Predicting zero scores 1 and an untrained network perhaps hundreds; what is
beyond a million was about to overflow and should have been reported as diverged."""

Located = tuple[str, Record]
"""A record and where it stands, ``file:line``."""

_EDITED = "a suite, version and profile has one set of settings"

Verify = Callable[[Sequence[Located]], Iterable[tuple[str, str]]]
"""Yields (where, what) for records that are not what they say; see `pdebench_fm.leaderboard.plans`."""


def problems(record: Record) -> Iterator[str]:
    """Yield what is wrong with a record by itself, one line each."""
    if record.status == "ok":
        if SCORE not in record.metrics:
            yield f"metrics has no {SCORE}"
        else:
            yield from _score_problems(record)
        if record.test_examples == 0:
            yield "test_examples is 0, yet there are metrics"
    yield from _choice_problems(record)
    yield from _description_problems(record)
    for trial in record.trials:
        if [other.job_id for other in record.trials].count(trial.job_id) > 1:
            yield f"trial {trial.job_id[:12]}… is listed twice"
            break


def _score_problems(record: Record) -> Iterator[str]:
    score = record.metrics[SCORE]
    if not 0 < score <= LARGEST:
        yield f"{SCORE} is out of range: must be above 0 and at most {LARGEST:g}, got {score:g}"
    if SCORE not in record.interval:
        yield f"interval has no {SCORE}"
        return
    low, high = record.interval[SCORE]
    if not low * (1 - 1e-6) <= score <= high * (1 + 1e-6):  # a bootstrap of equal values differs by rounding
        yield f"{SCORE} {score:g} lies outside its own interval [{low:g}, {high:g}]"


def _choice_problems(record: Record) -> Iterator[str]:
    """Whether the point was scored with the trial that its validation error chose."""
    errors = [(t.validation, t.hyperparameters.get("learning_rate")) for t in record.trials if t.validation is not None]
    if record.status == "ok" and record.trials and not errors:
        yield "status is ok, yet none of its trials is"
        return
    if record.status == "ok" and any(trial.status not in ("ok", "diverged") for trial in record.trials):
        yield "status is ok, yet a trial has failed: it was chosen among fewer than the others"
    if record.status != "ok" or not errors:
        return
    best = min(error for error, _ in errors)
    chosen = [rate for error, rate in errors if error == best]
    if record.learning_rate not in chosen:
        yield f"learning_rate {_short(record.learning_rate)} is not that of its best trial ({chosen[0]})"


def _description_problems(record: Record) -> Iterator[str]:
    """Whether the record says of its job what the job's own description says."""
    try:
        described = _described(record.job)
    except (KeyError, TypeError, ValueError):
        yield "job is not the description of a point"
        return
    stated: dict[str, Any] = {
        "model_args": record.model_args,
        "protocol": record.protocol,
        "examples": record.examples,
        "seed": record.seed,
        "precision": record.precision,
        "pretrain_job_id": record.pretrain_job_id,
    }
    if record.trials or record.status == "ok":
        stated["trials"] = [trial.job_id for trial in record.trials]
    if record.status == "ok":
        stated["test_examples"] = record.test_examples
    if record.status == "unsupported" and record.pretrain_job_id is None:
        del stated["pretrain_job_id"]  # a pre-training that nothing waits for is not planned
    for name, value in stated.items():
        if described[name] != value:
            yield f"{name} is {value!r}, its job says {described[name]!r}"
    if not described["data_seeds"] <= {record.data_seed}:
        yield f"data_seed is {record.data_seed}, its job says {sorted(described['data_seeds'], key=repr)}"


def _described(job: Mapping[str, Any]) -> dict[str, Any]:
    """What a point's description says, under the names a record uses."""
    train, sets = job["train"], [*job["train"]["sets"], *job["test"]["sets"]]
    few_shot = train.get("few_shot")
    if not isinstance(job["start"], dict):
        raise TypeError("start must be a mapping")
    return {
        "model_args": job["model"]["arguments"],
        "protocol": job["protocol"]["name"],
        "examples": few_shot["examples"] if few_shot else sum(part["count"] for part in train["sets"]),
        "seed": job["seed"],
        "precision": job["precision"],
        "pretrain_job_id": job["start"].get("job"),
        "trials": list(job["trials"]),
        "test_examples": sum(part["count"] for part in job["test"]["sets"]),
        "data_seeds": {part["data_seed"] for part in sets if "data_seed" in part},
    }


def conflicts(records: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that cannot stand side by side: those of one table must be comparable."""
    yield from _one_value(
        records,
        _table,
        lambda r: r.data_seed,
        "data_seed",
        "scores of different data are not comparable",
    )
    yield from _one_value(
        [(where, record) for where, record in records if record.status == "ok"],
        lambda r: (r.suite, r.suite_version, r.profile, r.kind, r.task),
        lambda r: r.test_examples,
        "test_examples",
        "scores over different test sets are not comparable",
    )
    yield from _one_value(
        records,
        lambda r: (r.suite, r.suite_version, r.profile, r.model),
        lambda r: r.model_args,
        "model_args",
        "another configuration needs a model name of its own",
    )
    yield from _one_value(
        records,
        _table,
        lambda r: r.under_trained,
        "under_trained",
        "a suite says it of a profile, for all alike",
    )
    yield from _one_value(
        records,
        lambda r: (r.suite, r.suite_version, r.kind, r.task),
        lambda r: r.shift,
        "shift",
        "a suite says it of a task, for all alike",
    )
    yield from _one_value(
        records,
        lambda r: (r.suite, r.suite_version, r.profile, r.model.casefold()),
        lambda r: r.model,
        "model",
        "names that differ in capitals alone are one file on some systems",
    )
    yield from repeated(records)
    yield from _one_value(
        records,
        lambda r: (r.suite, r.suite_version, r.profile, r.model, r.kind, r.cell),
        lambda r: r.job_id,
        "job_id",
        "this cell is already scored by another job; for a model's next version there is `leaderboard add --replace`",
    )
    trained = {
        (*_table(record), record.model, record.job_id)
        for _, record in records
        if record.kind == "pretraining" and record.status == "ok"
    }
    for where, record in records:
        parent = record.pretrain_job_id
        if record.status == "ok" and parent is not None and (*_table(record), record.model, parent) not in trained:
            yield where, f"its pre-training {parent[:12]}… has no record that is ok on this suite; add that too"
    yield from mixed_settings(records)


def repeated(records: Iterable[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records of a job that stands at the same place before."""
    places: dict[object, str] = {}
    for where, record in records:
        first = places.setdefault(record.key, where)
        if first != where:
            yield where, f"the same job stands at {first}, too; one line has to go"


def mixed_settings(records: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records of one table that were made with different settings.

    A suite file that is edited without a new version leaves these behind. What a job says must agree where it does not
    depend on the number of examples, the seed or the model, and of one model where it does not depend on the first two.
    Of each setting the first two records that disagree are named.
    """
    first: dict[object, tuple[str, Any]] = {}
    named = set()
    for where, record in records:
        for name, depends, value in _settings(record):
            at, leader = first.setdefault((_table(record), name, depends), (where, value))
            if value != leader and (_table(record), name) not in named:
                named.add((_table(record), name))
                path, ours, theirs = _difference(value, leader)
                setting = ".".join((name, *path))
                yield where, f"{setting} {_short(ours)} differs from {_short(theirs)} at {at}: {_EDITED}"


def _table(record: Record) -> tuple[str, int, str]:
    return (record.suite, record.suite_version, record.profile)


def _settings(record: Record) -> Iterator[tuple[str, tuple[object, ...], Any]]:
    """Yield a record's settings: name, what beside the suite and profile they may depend on, value."""
    job, start, train = record.job, start_of(record), record.job.get("train")
    place, arm = (record.kind, record.task), (record.model, record.protocol)
    yield "precision", (record.model,), record.precision
    yield "job.training", (), job.get("training")
    yield "job.selection", (), job.get("selection")
    yield "job.model", (record.model,), job.get("model")
    yield "job.protocol", (record.protocol,), job.get("protocol")
    yield "job.test", place, job.get("test")
    if isinstance(train, dict) and record.examples > 0:  # without examples there is no pool to draw from
        yield "job.train.sets", place, train.get("sets")
    yield "job.start.from", arm, start.get("from")
    yield "job.start", (*arm, record.task), start
    if start.get("from") == "weights":
        yield "job.start.sha256", (record.model,), start.get("sha256")
    if record.budget is not None:
        yield "budget", (_budgeted(record),), record.budget.model_dump()
    if record.trials:
        tried = [trial.hyperparameters for trial in record.trials]
        yield "trials.hyperparameters", arm, sorted(tried, key=canonical_json)
        if record.validation_examples is not None:
            yield "validation_examples", place, record.validation_examples


def _budgeted(record: Record) -> str:
    """Return what has one budget: fine-tuning and scratch together, and any other arm, which may divide it, alone."""
    return SCRATCH if record.protocol == FINE_TUNE else record.protocol


def _difference(one: Any, other: Any) -> tuple[list[str], Any, Any]:
    """Return where two pieces of plain data differ first, the keys that lead there, and both values."""
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


def _one_value(
    records: Iterable[Located],
    group: Callable[[Record], object],
    value: Callable[[Record], object],
    name: str,
    why: str,
) -> Iterator[tuple[str, str]]:
    """Yield every record whose value differs from that of the first record of its group."""
    first: dict[object, Located] = {}
    for where, record in records:
        at, leader = first.setdefault(group(record), (where, record))
        if value(record) != value(leader):
            yield where, f"{name} {_short(value(record))} differs from {_short(value(leader))} at {at}: {why}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def refusals(records: Iterable[Located], verify: Verify | None = None) -> list[str]:
    """Return everything that keeps these records, taken together, from being a leaderboard: ``file:line: what``."""
    located = list(records)
    found = [f"{where}: {problem}" for where, record in located for problem in problems(record)]
    found += [f"{where}: {conflict}" for where, conflict in conflicts(located)]
    if not found and verify is not None:
        found = [f"{where}: {problem}" for where, problem in verify(located)]
    return found
