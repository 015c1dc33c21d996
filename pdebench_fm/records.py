"""The result record: one scored point, with everything needed to trust it, and the file it is kept in.

A ``records.jsonl`` holds one JSON object a line; lines are only ever appended, and the last line of a job counts. A
record is checked when it is made and again whenever it is read, by the same rules.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from filelock import FileLock
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from pdebench_fm.errors import RecordError, suggestion
from pdebench_fm.identity import canonical_json, job_id
from pdebench_fm.messages import one_line

SCHEMA: Literal[1] = 1
"""Version of the record's form; a reader refuses any other."""

LONGEST_FILE_NAME = 200
"""Bytes of UTF-8 that a name which becomes a file name may have: file systems take 255, and an ending is added."""

_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, invisible formatting, half characters, line separators


def _one_line(text: str) -> str:
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise ValueError("must be one line without control characters")
    return text


def _file_name(text: str) -> str:
    if text.startswith(".") or text != text.strip() or "/" in text or "\\" in text:
        raise ValueError("becomes a file name: no '/' or '\\', no '.' in front, no spaces around it")
    if (size := len(text.encode("utf-8"))) > LONGEST_FILE_NAME:
        raise ValueError(f"becomes a file name: must be at most {LONGEST_FILE_NAME} bytes of UTF-8, it has {size}")
    return text


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    try:
        canonical_json(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"must be plain, finite data: {error}") from error
    return value


Text = Annotated[str, AfterValidator(_one_line)]
Name = Annotated[Text, StringConstraints(min_length=1, max_length=200)]
FileName = Annotated[Name, AfterValidator(_file_name)]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MOST = 2**53
"""Largest whole number of a record: a float holds it exactly, and all readers of JSON agree on it."""
Whole = Annotated[int, Field(ge=0, le=MOST)]
PlainData = Annotated[dict[str, Any], AfterValidator(_plain)]
Status = Literal["ok", "diverged", "failed", "unsupported"]


class Cell(NamedTuple):
    """One place in a suite's results: what is scored, whoever the model is."""

    task: str
    protocol: str
    examples: int
    seed: int


class _Strict(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class TrialRecord(_Strict):
    """One trial of a point: every value of the search space that was tried, whether it was chosen or not.

    ``validation`` is the error the point chose by; there is one exactly where the status is ``ok``. ``best_epoch``
    counts from 1 and is 0 where there are no epochs.
    """

    job_id: JobId
    hyperparameters: dict[Name, float]
    status: Status
    reason: Text
    validation: NonNegativeFloat | None
    epochs: NonNegativeInt
    steps: NonNegativeInt
    best_epoch: NonNegativeInt
    train_seconds: NonNegativeFloat

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.status == "ok") != (self.validation is not None):
            raise ValueError(f"status {self.status!r} contradicts validation {self.validation}")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"status {self.status!r} needs a reason")
        return self


class BudgetRecord(_Strict):
    """What each trial of a point was given: a number of epochs or of steps, and the size of a batch."""

    epochs: NonNegativeInt | None
    steps: NonNegativeInt | None
    batch_size: PositiveInt


class Record(_Strict):
    """One scored point (or pre-training), as one line of ``records.jsonl``.

    Args:
        schema_version: ``schema`` in the file; version of this form.
        kind: ``point``, or ``pretraining`` (whose protocol is ``pretraining`` too, and whose task names its source).
        job: the canonical description whose SHA-256 is ``job_id``.
        parameters: number of fitted real numbers; None where the model never came to be.
        examples: downstream training examples N; of a pre-training, its training examples.
        learning_rate: of the chosen trial; None for zero-shot and for models tuned otherwise.
        metrics: score by metric, smaller is better; empty exactly where the status is not ``ok``.
        interval: 95% interval of each score, bootstrap over the test examples.
        test_examples: how many examples were scored.
        under_trained: the profile says that models are not trained to the end at its scale; tables repeat it.
        train_seconds: seconds of the chosen trial's fit; those of the others stand in ``trials``.
        data_seconds: of these, seconds spent on making or reading examples.
        validation_examples: how many validation examples chose the trial, and its epoch; 0 where there was nothing to
            choose (zero-shot, scratch at N = 0, unsupported). None in records older than this key.
        budget: what each trial was given; None where there were none, and in records older than this key.
        coefficient_rise: by how much the error rises, relative to itself, when test examples exchange coefficients;
            near 0 the model does not use them. None where nothing could be exchanged or it was not measured.
        overlap: of the physics parameter's distributions in pre-training and test examples, as drawn, 0 … 1; None where
            they cannot be compared.
        pretrain_job_id: the pre-training the point started from; None where it started from none.
        trials: every trial, in the order of the search space.
        notes: what a reader should know, e.g. the adapter of a released model.
    """

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    kind: Literal["point", "pretraining"]
    job_id: JobId
    job: PlainData
    suite: FileName
    suite_version: PositiveInt
    profile: FileName
    task: Name
    shift: Text
    model: FileName
    model_args: PlainData
    parameters: Whole | None
    protocol: FileName
    examples: Whole
    data_seed: NonNegativeInt
    seed: NonNegativeInt
    learning_rate: PositiveFloat | None
    metrics: dict[Name, NonNegativeFloat]
    interval: dict[Name, tuple[float, float]]
    test_examples: NonNegativeInt
    status: Status
    reason: Text
    under_trained: bool
    epochs: NonNegativeInt
    steps: NonNegativeInt
    train_seconds: NonNegativeFloat
    data_seconds: NonNegativeFloat
    device: Text
    threads: NonNegativeInt
    precision: Name
    versions: dict[Name, Text]
    commit: Text | None
    validation_examples: NonNegativeInt | None = None
    budget: BudgetRecord | None = None
    coefficient_rise: float | None = None
    overlap: Annotated[float, Field(ge=0, le=1)] | None = None
    pretrain_job_id: JobId | None
    trials: tuple[TrialRecord, ...]
    notes: dict[Name, Text]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.kind == "pretraining") != (self.protocol == "pretraining"):
            raise ValueError(f"kind {self.kind!r} contradicts protocol {self.protocol!r}")
        if self.kind == "pretraining" and self.pretrain_job_id is not None:
            raise ValueError("a pre-training has no pretrain_job_id")
        if self.status == "ok" and not self.metrics:
            raise ValueError("status 'ok' needs metrics")
        if self.status != "ok" and (self.metrics or self.interval):
            raise ValueError(f"status {self.status!r} must have empty metrics and interval")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"status {self.status!r} needs a reason")
        for name, (low, high) in self.interval.items():
            if name not in self.metrics:
                raise ValueError(f"interval.{name}: there is no metric of that name")
            if low > high:
                raise ValueError(f"interval.{name}: must be [low, high] with low <= high, got [{low}, {high}]")
        expected = job_id(self.job)
        if self.job_id != expected:
            raise ValueError(f"job_id must be the SHA-256 of job, {expected[:12]}…, got {self.job_id[:12]}…")
        return self

    @property
    def cell(self) -> Cell:
        """The place of this record in its suite's results."""
        return Cell(self.task, self.protocol, self.examples, self.seed)

    @property
    def place(self) -> tuple[str, int, str, str, str, Cell]:
        """Which number of which table this is; two jobs at one place are two attempts at the same number."""
        return (self.suite, self.suite_version, self.profile, self.kind, self.model, self.cell)

    @property
    def key(self) -> tuple[Any, ...]:
        """What a later line must share to replace this one; a job alone does not, since suites and cells share jobs."""
        return (*self.place, self.job_id)

    def line(self) -> str:
        """Return the record as one line of JSON, without the line ending."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), allow_nan=False)


def start_of(record: Record) -> Mapping[str, Any]:
    """Return what a record's job says it started from, e.g. ``{"from": "pretrained", "job": …}``.

    A job is plain data of any form, as others may have written it; where its start is no mapping this is an empty one.
    """
    start = record.job.get("start")
    return start if isinstance(start, dict) else {}


def parse(text: str, where: str) -> Record:
    """Read one record.

    Args:
        text: one JSON object.
        where: what errors begin with, e.g. ``records.jsonl:3``.

    Raises:
        RecordError: one line that names the key and what was expected.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where}: not a record: {_short(error)}") from error
    if not isinstance(data, dict):
        raise RecordError(f"{where}: a record must be a JSON object, got {_short(data)}")
    if type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        raise RecordError(f"{where}: schema: must be {SCHEMA}, got {_short(data.get('schema'))}")
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise RecordError(f"{where}: {_explain(error)}") from error


def append(path: Path, records: Iterable[Record]) -> None:
    """Append records, each as one line, so that neither a second writer nor a kill can damage an earlier line.

    Writers take turns by a lock beside the file (``records.jsonl.lock``). Half a line of a killed writer is removed.

    Raises:
        RecordError: the last line has no line ending and is neither a record nor half of one; nothing is written then.
    """
    text = "".join(record.line() + "\n" for record in records)
    if not text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"), open(path, "a+b") as file:
        _mend_end(file.fileno(), path)
        file.write(text.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """Read the records that count: the last of each `Record.key`, in the order of their lines.

    A last line without its line ending may be what a killed writer left: the beginning of a JSON object. Half an object
    is ignored, and nothing else.

    Raises:
        RecordError: ``file:line: what`` for any other line that is no record, or for a file that cannot be read.
    """
    last: dict[Any, Record] = {}
    for _, record in read_lines(path):
        last.pop(record.key, None)  # so that it moves to the end: what was written last is the newest
        last[record.key] = record
    return list(last.values())


def read_lines(path: Path) -> list[tuple[int, Record]]:
    """Read every record with the number of its line, counted from 1; raises as `read` does."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and (not line or _is_half(line)):
            break
        found.append((number, _parse_line(line, f"{path}:{number}")))
    return found


def _parse_line(line: bytes, where: str) -> Record:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: not a record: {error}") from error
    return parse(text, where)


def collect(runs: Iterable[Path]) -> list[tuple[str, Record]]:
    """Read the newest record of each place from finished runs.

    Args:
        runs: files of records, or folders that are searched for records.jsonl, and if there is none, for any
            ``*.jsonl``, as a leaderboard keeps them. Within one file the last line of a `Record.place` counts, so that
            what was run again after a change is shown as it is now.

    Returns:
        ``file:line`` and record, in the order of the lines.

    Raises:
        RecordError: a path is neither, a folder holds no records, or a line is no record.
    """
    found: list[tuple[str, Record]] = []
    for run in runs:
        files = _files(run) if run.is_dir() else [run]
        if not files:
            raise RecordError(f"{run}: holds no records.jsonl")
        for file in files:
            newest = {record.place: (f"{file}:{line}", record) for line, record in read_lines(file)}
            found.extend(newest.values())
    return found


def _files(folder: Path) -> list[Path]:
    """Return the files of records in a folder; a run's jobs keep other lines of JSON, the histories of their fits."""
    every = sorted(path for path in folder.rglob("*.jsonl") if not _of_a_job(path))
    return [path for path in every if path.name == "records.jsonl"] or every


def _of_a_job(path: Path) -> bool:
    """Whether a file lies in a run's ``jobs/<id>/``: the history of a fit, or what somebody's model has written."""
    parts = path.absolute().parts
    if (path.name, parts[-3:-2]) == ("history.jsonl", ("jobs",)):
        return True
    return any(folder == "jobs" and re.fullmatch("[0-9a-f]{64}", name) for folder, name in pairwise(parts))


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of one line; ``record.schema.json`` beside this file is a copy."""
    schema = Record.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _mend_end(descriptor: int, path: Path) -> None:
    """Make the file end with a line ending: complete a whole last line, drop half a one. Called under the lock."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    start, number = content.rfind(b"\n") + 1, content.count(b"\n") + 1
    if _is_half(content[start:]):
        os.ftruncate(descriptor, start)
    else:  # refused where it is no record, so that nothing somebody else wrote is removed or buried
        _parse_line(content[start:], f"{path}:{number}")
        os.write(descriptor, b"\n")


def _is_half(line: bytes) -> bool:
    """Whether a line may be what a killed writer left of a record: the beginning of an object, and not all of one."""
    line = line.rstrip(b"\0")  # what some file systems leave of a write that a power cut met
    try:
        json.JSONDecoder().raw_decode(line.decode("ascii"))
    except json.JSONDecodeError as error:
        begun = line == b"{" or line.startswith(b'{"')
        # What stops the parser of half a line is its end, perhaps amid a text, number or word; all else is a slip.
        return begun and (
            error.msg.startswith("Unterminated string") or _CUT.fullmatch(error.doc, error.pos) is not None
        )
    except (UnicodeDecodeError, RecursionError):  # never written here
        return False
    return False


_CUT = re.compile(r"|-|\.|[eE][+-]?|t|tr|tru|f|fa|fal|fals|n|nu|nul|u[0-9a-f]{0,4}")
"""What the parser may find of a number, a word or an escaped character that was cut."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands there twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"numbers must be finite, got {name}")


def _explain(error: ValidationError) -> str:
    """Return the first thing that is wrong as one line: the key, what was expected, what came."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = TrialRecord.model_fields if first["loc"][0] == "trials" else Record.model_fields
        known = [field.alias or name for name, field in fields.items()]
        return f"{key}: unknown key{suggestion(str(first['loc'][-1]), known)}"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    if first["type"] == "missing":
        return f"{key}: must be there"
    if not key or isinstance(first["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, got {_short(first['input'])}"


def _short(value: object) -> str:
    text = one_line(value if isinstance(value, Exception) else repr(value))
    return text if len(text) <= 100 else text[:99] + "…"
