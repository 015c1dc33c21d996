"""The result record: one scored point, with everything needed to trust it.

A record is validated when it is made and again when it is read, by the same rules.
"""

from __future__ import annotations

import unicodedata
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from pdebench_fm._util.identity import canonical_json, job_id
from pdebench_fm._util.plain import Line, first_problem
from pdebench_fm.errors import suggestion
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.description import DescribedPoint
from pdebench_fm.records.search import SearchState, Tried, search_state

SCHEMA: Literal[1] = 1
"""Version of the schema. A reader rejects any other."""

LONGEST_FILE_NAME = 200
"""Most bytes of UTF-8 in a name that becomes a file name. File systems take 255, and an ending is added."""

_NOT_PLAIN = "must be plain data with finite numbers"
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formatting, surrogates, separators


def _one_line(text: str) -> str:
    if not text.isprintable() and any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        raise ValueError("must be one line without control characters")
    return text


def _file_name(text: str) -> str:
    if text.startswith(".") or text != text.strip() or "/" in text or "\\" in text:
        raise ValueError("is a file name: must not contain '/' or '\\', start with '.', or have spaces around it")
    if (size := len(text.encode("utf-8"))) > LONGEST_FILE_NAME:
        raise ValueError(f"is a file name: must be at most {LONGEST_FILE_NAME} bytes of UTF-8, got {size}")
    return text


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    try:
        canonical_json(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_NOT_PLAIN}: {error}") from error
    return value


Text = Annotated[str, AfterValidator(_one_line)]
# Constraints first: pydantic checks those in front of a function without Python, and records have many names.
Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_one_line)]
FileName = Annotated[Name, AfterValidator(_file_name)]
JobId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MOST = 2**53
"""Largest integer in a record: a float holds it exactly, so all JSON readers agree on it."""
Whole = Annotated[int, Field(ge=0, le=MOST)]
COST = ("flops", "peak_memory", "inference_seconds", "inference_batch", "inference_device")
"""Keys of a record that say what a prediction costs."""
PlainData = Annotated[dict[str, Any], AfterValidator(_plain)]
Status = Literal["ok", "diverged", "failed", "unsupported"]


class Cell(NamedTuple):
    """One place in a suite's results, for any model."""

    task: str
    protocol: str
    examples: int
    seed: int

    def __str__(self) -> str:
        return f"{self.task}, {self.protocol}, N = {self.examples}, seed {self.seed}"


class _Made(Line):
    """Made from lists and mappings, too, which a strict model takes from JSON only."""

    model_config = ConfigDict(strict=False)


class TrialRecord(_Made):
    """One trial of a point, chosen or not.

    Args:
        validation: the error by which the point chooses; given exactly if the status is ``ok``.
        best_epoch: counted from 1; 0 if there are no epochs.
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


class BudgetRecord(_Made):
    """The budget of each trial: epochs or steps, and the batch size."""

    epochs: NonNegativeInt | None
    steps: NonNegativeInt | None
    batch_size: PositiveInt


class Record(_Made):
    """One scored point or pre-training: one line of ``records.jsonl``.

    Args:
        schema_version: ``schema`` in the file; version of the schema.
        kind: ``point`` or ``pretraining``. The protocol of a pre-training is ``pretraining``, its task is its source.
        job: the canonical description whose SHA-256 is ``job_id``.
        parameters: number of fitted real numbers; None if the model was never built.
        examples: downstream training examples N; for a pre-training, its training examples.
        learning_rate: of the chosen trial; None for zero-shot and for models without a learning rate.
        metrics: score by metric; empty exactly if the status is not ``ok``.
        interval: 95% interval of each score, bootstrap over the test examples.
        test_examples: number of examples scored.
        errors_sha256: of the main score of each test example, in float32; see `pdebench_fm.records.errors`. None in
            older records.
        under_trained: the profile says that models are not trained to the end at its scale.
        train_seconds: time of the chosen trial's fit.
        data_seconds: the part of ``train_seconds`` spent on making or reading examples.
        validation_examples: number of examples that chose the trial and its epoch; 0 if there was no choice. None in
            older records.
        budget: of each trial; None without trials, and in older records.
        coefficient_rise: relative rise of the error when test examples exchange coefficients; near 0 the model does
            not use them. None if not measured.
        overlap: of the physics parameter's distributions in pre-training and test examples, 0 … 1. None if they
            cannot be compared.
        pretrain_job_id: the pre-training the point started from, if any.
        trials: every trial, in the order of the search space, then those that the search added.
        search: whether the chosen learning rate has tried ones on both sides. None if fewer than two rates were tried,
            and in older records.
        notes: further remarks, e.g. the adapter of a released model.
        flops: floating-point operations of the prediction of one example, see `pdebench_fm.scoring.cost`. This and what
            follows is None if it was not measured, as in older records.
        peak_memory: bytes; on a GPU the most that torch allocated while a batch was predicted, on a CPU the largest
            resident size of the process, training included.
        inference_seconds: time to predict one example, in a batch of ``inference_batch``.
        inference_batch: examples of that batch.
        inference_device: device and threads that predicted it.
    """

    schema_version: Literal[1] = Field(alias="schema")
    kind: Literal["point", "pretraining"]
    job_id: JobId
    job: dict[str, Any]
    suite: FileName
    suite_version: PositiveInt
    profile: FileName
    task: Name
    shift: Text
    model: FileName
    model_args: PlainData
    parameters: Whole | None
    protocol: Name
    examples: Whole
    data_seed: NonNegativeInt
    seed: NonNegativeInt
    learning_rate: PositiveFloat | None
    metrics: dict[Name, FiniteFloat]
    interval: dict[Name, tuple[float, float]]
    test_examples: NonNegativeInt
    errors_sha256: JobId | None = None
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
    search: SearchState | None = None
    notes: dict[Name, Text]
    flops: Whole | None = None
    peak_memory: Whole | None = None
    inference_seconds: PositiveFloat | None = None
    inference_batch: PositiveInt | None = None
    inference_device: Name | None = None

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
        if (score := self.metrics.get(SCORE, 0.0)) < 0:
            raise ValueError(f"metrics.{SCORE}: must be at least 0, got {score:g}")
        timed = (self.inference_seconds, self.inference_batch, self.inference_device)
        if None in timed and any(value is not None for value in timed):
            raise ValueError("inference_seconds, inference_batch and inference_device must be given together")
        if self.status != "ok" and any(getattr(self, name) is not None for name in COST):
            raise ValueError(f"status {self.status!r} must have no {' or '.join(COST)}")
        if self.search is not None and self.search != self.searched:
            raise ValueError(f"search must be {self.searched!r}, as its trials say, got {self.search!r}")
        for name, (low, high) in self.interval.items():
            if name not in self.metrics:
                raise ValueError(f"interval.{name}: must name one of the metrics{suggestion(name, self.metrics)}")
            if low > high:
                raise ValueError(f"interval.{name}: must be [low, high] with low <= high, got [{low}, {high}]")
        try:
            expected = job_id(self.job)
        except (TypeError, ValueError) as error:
            raise ValueError(f"job: {_NOT_PLAIN}: {error}") from error
        if self.job_id != expected:
            raise ValueError(f"job_id must be the SHA-256 of job, {expected[:12]}…, got {self.job_id[:12]}…")
        try:
            _ = self.described
        except ValidationError as error:
            raise ValueError(f"job.{first_problem(error)}") from error
        return self

    @cached_property
    def described(self) -> DescribedPoint:
        """What the job says."""
        return DescribedPoint.model_validate(self.job)

    @property
    def own_weights(self) -> str:
        """SHA-256 of the user's weights that the point started from; empty if it did not."""
        return self.described.start.sha256

    @property
    def searched(self) -> SearchState | None:
        """Whether the search is closed, as the trials say; also of older records, which lack ``search``."""
        return search_state([Tried(trial.hyperparameters, trial.validation) for trial in self.trials])

    @property
    def cell(self) -> Cell:
        """The place of this record in its suite's results."""
        return Cell(self.task, self.protocol, self.examples, self.seed)

    @property
    def place(self) -> tuple[str, int, str, str, str, Cell]:
        """Which number of which table this is. Two jobs at one place are two attempts at the same number."""
        return (self.suite, self.suite_version, self.profile, self.kind, self.model, self.cell)

    @property
    def key(self) -> tuple[Any, ...]:
        """What a later line must share to replace this one. The job id is not enough: cells share jobs."""
        return (*self.place, self.job_id)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of one line; ``pdebench_fm/record.schema.json`` is a copy."""
    schema = Record.model_json_schema(by_alias=True, mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
