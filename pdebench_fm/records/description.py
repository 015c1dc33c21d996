"""What the job of a record says: the description that `pdebench_fm.plan.job` writes, read back as types.

Keys that are not named here are kept, so that two descriptions compare as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    def plain(self) -> dict[str, Any]:
        """Return it as it stands in the record."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class DescribedPlugin(_Described):
    """A protocol, system or metric."""

    name: str
    version: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)


class DescribedModel(_Described):
    """A model."""

    family: str
    version: str
    arguments: dict[str, Any]
    fingerprint: str = ""


class DescribedStart(_Described):
    """What a fit starts from, as in `pdebench_fm.plan.job.Start`."""

    source: Literal["initialised", "released", "pretrained", "weights"] = Field(alias="from")
    job: str | None = None
    sha256: str = ""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if bool(self.sha256) != (self.source == "weights"):
            raise ValueError(f"must have a sha256 if it is from weights, and only then, got from: {self.source}")
        return self


class DescribedSet(_Described):
    """A set of examples. One that is read from a file names no system."""

    count: NonNegativeInt
    data_seed: int | None = None
    system: DescribedPlugin | None = None


class DescribedFewShot(_Described):
    """How many examples of a pool are used, chosen by which seed."""

    examples: NonNegativeInt
    seed: int


class DescribedExamples(_Described):
    """Sets of examples, and which of them are used."""

    sets: list[DescribedSet]
    few_shot: DescribedFewShot | None = None

    @property
    def count(self) -> int:
        """How many are used."""
        return self.few_shot.examples if self.few_shot else sum(part.count for part in self.sets)

    @property
    def systems(self) -> list[str]:
        """Names of the systems, e.g. ``helmholtz``; none for examples from files."""
        return list(dict.fromkeys(part.system.name for part in self.sets if part.system))

    @property
    def named(self) -> bool:
        """Whether they say where they come from: a sampler or a file."""
        return bool(self.sets) and all({"sampler", "file"} & (part.model_extra or {}).keys() for part in self.sets)

    def plain_sets(self) -> Sequence[dict[str, Any]]:
        """Return the sets as they stand in the record."""
        return [part.plain() for part in self.sets]


class DescribedPoint(_Described):
    """The job of a record."""

    kind: Literal["point"]
    model: DescribedModel
    protocol: DescribedPlugin
    start: DescribedStart
    train: DescribedExamples
    seed: int
    precision: str
    training: str
    selection: DescribedPlugin
    trials: list[str]
    test: DescribedExamples
    extend: NonNegativeInt = 0
