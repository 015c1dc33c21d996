"""What a record must be to enter the leaderboard, beyond being well formed.

Many wrong records contradict themselves or each other: a learning rate that was not the best of its trials, an interval
that misses its own score, a pre-training without a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pdebench_fm._util.identity import canonical_json
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH
from pdebench_fm.records.record import Record, start_of

LARGEST = 1e6
"""Largest error that counts as a score. Predicting zero scores 1; anything larger than this has diverged."""

Located = tuple[str, Record]
"""``file:line`` of a record, and the record."""

Verify = Callable[[Sequence[Located]], Iterable[tuple[str, str]]]
"""Yields (where, what) for records that are not what they say, see `pdebench_fm.leaderboard.plans`."""


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
        yield f"learning_rate: must be that of its best trial, {chosen[0]}, got {_short(record.learning_rate)}"


def _description_problems(record: Record) -> Iterator[str]:
    """Check that the record agrees with the description of its job."""
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
        del stated["pretrain_job_id"]  # a pre-training that no job needs is not planned
    for name, value in stated.items():
        if described[name] != value:
            yield f"{name} is {value!r}, its job says {described[name]!r}"
    if not described["data_seeds"] <= {record.data_seed}:
        yield f"data_seed is {record.data_seed}, its job says {sorted(described['data_seeds'], key=repr)}"


def _described(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job's description says, by the names of the record's keys."""
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


def _table(record: Record) -> tuple[str, int, str]:
    return (record.suite, record.suite_version, record.profile)


_Key = Callable[[Record], object]
_AGREE: tuple[tuple[str, str, _Key, _Key], ...] = (
    ("data_seed", "scores of different data are not comparable", _table, lambda r: r.data_seed),
    (
        "test_examples",
        "scores over different test sets are not comparable",
        lambda r: (*_table(r), r.kind, r.task),
        lambda r: r.test_examples,
    ),
    (
        "model_args",
        "another configuration needs a model name of its own",
        lambda r: (*_table(r), r.model),
        lambda r: r.model_args,
    ),
    ("under_trained", "it is a property of the profile", _table, lambda r: r.under_trained),
    (
        "shift",
        "it is a property of the task",
        lambda r: (r.suite, r.suite_version, r.kind, r.task),
        lambda r: r.shift,
    ),
    (
        "model",
        "names that differ only in case are one file on some systems",
        lambda r: (*_table(r), r.model.casefold()),
        lambda r: r.model,
    ),
    (
        "job_id",
        "another job has scored this cell; use `leaderboard add --replace` for a model's next version",
        lambda r: r.place,
        lambda r: r.job_id,
    ),
)
"""What records must agree on: name, reason, key of those that must agree, value."""


def conflicts(records: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that are not comparable with an earlier one."""
    scored = [(where, record) for where, record in records if record.status == "ok"]
    for name, why, group, value in _AGREE:
        yield from _one_value(scored if name == "test_examples" else records, group, value, name, why)
    yield from repeated(records)
    trained = {(*_table(r), r.model, r.job_id) for _, r in scored if r.kind == "pretraining"}
    for where, record in scored:
        parent = record.pretrain_job_id
        if parent is not None and (*_table(record), record.model, parent) not in trained:
            yield where, f"its pre-training {parent[:12]}… has no record that is ok on this suite; add that too"
    yield from mixed_settings(records)


def repeated(records: Iterable[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records that are there twice."""
    places: dict[object, str] = {}
    for where, record in records:
        first = places.setdefault(record.key, where)
        if first != where:
            yield where, f"the same job is at {first}; remove one line"


def mixed_settings(records: Sequence[Located]) -> Iterator[tuple[str, str]]:
    """Yield (where, what) for records of one suite, version and profile with different settings.

    Editing a suite without a new version leaves such records. For each setting, the first two records that disagree are
    named.
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
                why = "a suite, version and profile has one set of settings"
                yield where, f"{setting} {_short(ours)} differs from {_short(theirs)} at {at}: {why}"


def _settings(record: Record) -> Iterator[tuple[str, tuple[object, ...], Any]]:
    """Yield a record's settings: name, what they may depend on besides suite and profile, value."""
    job, start, train = record.job, start_of(record), record.job.get("train")
    place, arm = (record.kind, record.task), (record.model, record.protocol)
    yield "precision", (record.model,), record.precision
    yield "job.training", (), job.get("training")
    yield "job.selection", (), job.get("selection")
    yield "job.model", (record.model,), job.get("model")
    yield "job.protocol", (record.protocol,), job.get("protocol")
    yield "job.test", place, job.get("test")
    if isinstance(train, dict) and record.examples > 0:  # without examples there is no pool
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
    """Return the key of what shares a budget: fine-tuning and scratch do, every other arm has its own."""
    return SCRATCH if record.protocol == FINE_TUNE else record.protocol


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
    """Return everything that is wrong with these records together, as ``file:line: what``."""
    located = list(records)
    found = [f"{where}: {problem}" for where, record in located for problem in problems(record)]
    found += [f"{where}: {conflict}" for where, conflict in conflicts(located)]
    if not found and verify is not None:
        found = [f"{where}: {problem}" for where, problem in verify(located)]
    return found
