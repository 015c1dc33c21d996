"""What a numerical solver reaches on the test examples of a task, one JSON object a line.

A solver uses the equation, so it is shown beside the models and never ranked with them.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pdebench_fm._util.plain import Line
from pdebench_fm.records.record import FileName, Name, PlainData


class SolverRecord(Line):
    """One solver on the test examples of one task.

    Args:
        schema_version: ``schema`` in the file.
        arguments: of the solver.
        test: description of the test examples, as in the job of a point.
        test_examples: the first ones of these, which were solved.
        error: mean relative L2 error against the reference solutions; 0 for the solver that makes them.
        interval: its 95% interval, bootstrap over the examples.
        inference_seconds: time for one example, measured as for models, with one thread.
        inference_batch: examples handed over at a time.
        inference_device: device and threads.
        versions: of software.
    """

    schema_version: Literal[1] = Field(alias="schema")
    suite: FileName
    profile: FileName
    task: Name
    solver: FileName
    version: Name
    arguments: PlainData
    test: tuple[PlainData, ...]
    test_examples: PositiveInt
    error: NonNegativeFloat
    interval: tuple[Annotated[float, Field(ge=0)], float]
    inference_seconds: PositiveFloat
    inference_batch: PositiveInt
    inference_device: Name
    versions: dict[Name, Name]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.interval
        if not low * (1 - 1e-6) <= self.error <= high * (1 + 1e-6):
            raise ValueError(f"error {self.error:g} must be inside its interval, [{low:g}, {high:g}]")
        if self.inference_batch > self.test_examples:
            raise ValueError(f"inference_batch must be at most test_examples, {self.test_examples}")
        if self.test_examples > (known := sum(int(part.get("count", 0)) for part in self.test)):
            raise ValueError(f"test_examples must be at most those of test, {known}, got {self.test_examples}")
        return self

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Suite, profile, task and solver: one line each."""
        return (self.suite, self.profile, self.task, self.solver)
