"""The pydantic models of a suite file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pdebench_fm._util.text import show
from pdebench_fm.errors import UnknownNameError, UsageError, suggestion
from pdebench_fm.interfaces.sampler import SPLITS, Split
from pdebench_fm.registry import Registry
from pdebench_fm.suite.positions import LocatedError

_SUITE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LARGEST_ID = 2**50  # what the random streams can address
_DISTRIBUTION_KEYS = ("system", "sampler", "files")

MOST_SEEDS = 1000
"""Seeds that a profile may have, and ``pdefm run --seeds``."""

MOST_EXTENDED = 20
"""Learning rates that a search may try beyond those listed."""

RESERVED = ("data_seed", "split")
"""Parameters of a sampler that the plan fills in; a suite cannot set them."""


def _name(name: str) -> str:
    if not 1 <= len(name) <= 80 or not name.isprintable() or name != name.strip():
        raise ValueError(f"a name is 1 to 80 printable characters without blanks at its ends, got {show(name)}")
    return name


def _profile_name(name: str) -> str:
    if not _PROFILE_NAME.fullmatch(name):  # it becomes part of file names
        raise ValueError(f"must be letters, digits, '.', '-', '_', at most 64 of them, got {show(name)}")
    return name


Name = Annotated[str, AfterValidator(_name)]
ProfileName = Annotated[str, AfterValidator(_profile_name)]
Count = Annotated[int, Field(ge=1, le=_LARGEST_ID)]
Rate = Annotated[float, Field(gt=0)]


class _Model(BaseModel):
    """Base of all models: nothing is converted, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    also: ClassVar[tuple[str, ...]] = ()
    """Keys that are handled before validation."""


class Distribution(_Model):
    """The source of a distribution's examples: a sampler, or HDF5 files.

    Args:
        system: the PDE. A sampler needs it. With files it is optional and adds the residual.
        sampler: name of the sampler; by default the system's own.
        settings: all other keys, for the sampler.
        files: one HDF5 file per split, relative to the suite file.
    """

    system: str | None = None
    sampler: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    files: dict[Split, Path] | None = None

    @model_validator(mode="before")
    @classmethod
    def _collect_settings(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or not info.context:  # built in Python, not read from a suite
            return data
        known = {key: value for key, value in data.items() if key in _DISTRIBUTION_KEYS}
        if "files" in known and known["files"] is None:  # an empty entry must not fall back to the sampler
            known["files"] = {}
        return known | {"settings": {key: value for key, value in data.items() if key not in known}}

    @field_validator("files")
    @classmethod
    def _beside_the_suite(cls, files: dict[Split, Path] | None, info: ValidationInfo) -> dict[Split, Path] | None:
        if files is None or not info.context:
            return files
        return {split: info.context["folder"] / path for split, path in files.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.files is None:
            if self.system is None:
                for key in self.settings:  # probably a typing error
                    if difflib.get_close_matches(key, _DISTRIBUTION_KEYS, n=1):
                        raise LocatedError(f"unknown key{suggestion(key, _DISTRIBUTION_KEYS)}", key, at_key=True)
                raise ValueError("needs a system, or files")
            return self
        if self.sampler is not None:
            raise LocatedError("a distribution has a sampler or files, not both", "sampler")
        for key in self.settings:
            raise LocatedError(f"unknown key beside files{suggestion(key, ('files', 'system'))}", key, at_key=True)
        if not self.files:
            raise LocatedError(f"must name a file for some of {', '.join(SPLITS)}", "files")
        return self

    def sampler_name(self, registry: Registry) -> str:
        """Return the name of the sampler, by default the system's own.

        Raises:
            UsageError: the examples come from files, or the system has no sampler.
        """
        if self.sampler is not None:
            return self.sampler
        if self.system is None or self.files is not None:
            raise UsageError("the distribution is read from files; it has no sampler")
        name: str = registry.get("systems", self.system).sampler
        if not name:
            raise UsageError(f"system {self.system!r} has no sampler of its own; name one with sampler: …")
        return name


class Task(_Model):
    """One transfer from a pre-training to a downstream distribution, and its shift."""

    name: Name
    pretraining: str
    downstream: str
    shift: Literal["none", "mild", "med", "large"]


class Use(_Model):
    """A registered protocol or objective: its name, or ``{name: {argument: value}}``."""

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, data: Any) -> Any:
        if isinstance(data, str):
            return {"name": data}
        if isinstance(data, dict) and len(data) == 1 and "name" not in data:
            ((name, arguments),) = data.items()
            return {"name": name, "arguments": arguments}
        return data

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.name}({shown})" if shown else self.name


SUPERVISED = "supervised"
"""The objective of a pre-training that names none: the solutions of its examples."""


class Pretraining(_Model):
    """The distributions that one pre-training learns together, as a list if it is supervised.

    Args:
        objective: what is learned from inputs alone; None if the solutions are.
    """

    distributions: Annotated[tuple[str, ...], Field(min_length=1)]
    objective: Use | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: Any) -> Any:
        if isinstance(data, str | int | float):
            expected = "a list of distributions, or {distributions: [...], objective: ...}"
            raise ValueError(f"must be {expected}, got {show(data)}")
        whole = {"distributions": data} if isinstance(data, list) else data
        if isinstance(whole, dict) and isinstance(whole.get("distributions"), list):  # strict models take no list
            return {**whole, "distributions": tuple(whole["distributions"])}
        return whole

    @field_validator("objective")
    @classmethod
    def _supervised_by_default(cls, objective: Use | None) -> Use | None:
        return None if objective == Use(name=SUPERVISED) else objective


class ExampleCounts(_Model):
    """The number of examples in each split.

    Args:
        pretraining: examples of each distribution; a mixture has this many of each.
        downstream: sizes of the few-shot training sets, increasing. They are drawn from the pool and nested.
        pool: number of downstream training examples to draw from.
    """

    pretraining: Count
    validation: Count
    test: Count
    downstream: Annotated[tuple[Count, ...], Field(min_length=1)]
    pool: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        for i, (low, high) in enumerate(zip(self.downstream, self.downstream[1:], strict=False)):
            if low >= high:
                raise LocatedError(f"sizes must increase, got {high} after {low}", "downstream", i + 1)
        if self.pool is not None:
            for i, size in enumerate(self.downstream):
                if size > self.pool:
                    message = f"must be at most the pool's size, {self.pool}, got {size}"
                    raise LocatedError(message, "downstream", i)
        return self

    @property
    def pool_size(self) -> int:
        """The number of downstream training examples to draw from."""
        return self.pool if self.pool is not None else max(self.pretraining, self.downstream[-1])


class _Search(_Model):
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1)]

    @field_validator("learning_rates")
    @classmethod
    def _distinct(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        for i, rate in enumerate(rates):
            if rate in rates[:i]:
                raise LocatedError(f"must be distinct, got {rate} twice", i)
        return rates


class _Budget(_Search):
    epochs: Count | None = None
    steps: Count | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError(f"needs exactly one of epochs and steps, got {'none' if self.steps is None else 'both'}")
        return self


class Training(_Budget):
    """The budget of pre-training: epochs or steps, batch size, learning rates."""

    batch_size: Count = 128


class FineTuning(_Budget):
    """The budget of every downstream arm; arms from scratch use `Profile.scratch_rates`.

    Args:
        batch_size: by default that of pre-training.
        validation: number of validation examples that select a downstream trial and its epoch, the first of the
            profile's; by default all of them. Pre-training always uses all of them.
    """

    batch_size: Count | None = None
    validation: Count | None = None


class ScratchSearch(_Search):
    """Learning rates of arms that start untrained; their other budget is that of fine-tuning."""


class Profile(_Model):
    """A scale at which a suite is run.

    Args:
        grid: points along each side.
        scratch: learning rates of arms that start untrained; by default those of ``training``.
        extend: how many learning rates a search may try beyond those listed, one at a time, while the best one so far
            is at an end. The same for every arm and for pre-training.
        seeds: number of runs with different few-shot sets and initialisations.
        under_trained: models are not trained to the end at this scale; tables say so.
    """

    also = ("use",)

    grid: Annotated[int, Field(ge=8, le=8192)]
    examples: ExampleCounts
    training: Training
    fine_tuning: FineTuning
    scratch: ScratchSearch | None = None
    extend: Annotated[int, Field(ge=0, le=MOST_EXTENDED)] = 0
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] = 1
    under_trained: bool = False

    @property
    def scratch_rates(self) -> tuple[float, ...]:
        """Learning rates of arms that start untrained."""
        return (self.scratch or self.training).learning_rates

    @model_validator(mode="after")
    def _same_tuning(self) -> Self:
        source = "training" if self.scratch is None else "scratch"
        wanted, got = len(self.scratch_rates), len(self.fine_tuning.learning_rates)
        if wanted != got:
            message = f"must be as many as in {source}, {wanted}, got {got}: every arm has the same tuning budget"
            if self.scratch is None:
                message += " (list other rates for scratch under 'scratch')"
            raise LocatedError(message, "fine_tuning", "learning_rates")
        return self

    @model_validator(mode="after")
    def _validation_within(self) -> Self:
        wanted, available = self.fine_tuning.validation, self.examples.validation
        if wanted is not None and wanted > available:
            message = f"must be at most the profile's validation examples, {available}, got {wanted}"
            raise LocatedError(message, "fine_tuning", "validation")
        return self

    @property
    def downstream_validation(self) -> int:
        """The number of validation examples that select a downstream trial and its epoch."""
        return self.fine_tuning.validation or self.examples.validation


class Suite(_Model):
    """The content of a suite file.

    Args:
        family: ``--model FAMILY`` scores every registered model of that family, smallest first. A member that supports
            none of the tasks gets rows with status ``unsupported``. If false, ``FAMILY`` is the one model of that name.
    """

    name: str
    version: Annotated[int, Field(ge=1)]
    description: Annotated[str, Field(min_length=1, max_length=4000)]
    default_profile: str
    data_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    distributions: Annotated[dict[Name, Distribution], Field(min_length=1)]
    pretraining: Annotated[dict[Name, Pretraining], Field(min_length=1)]
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    protocols: Annotated[tuple[Use, ...], Field(min_length=1)]
    profiles: Annotated[dict[ProfileName, Profile], Field(min_length=1)]
    family: bool = False
    _source: Path = PrivateAttr(default=Path())

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not _SUITE_NAME.fullmatch(name):
            raise ValueError(f"must be lower-case letters, digits, '-', '_', at most 64 of them, got {show(name)}")
        if name == "jobs":
            raise ValueError("must not be 'jobs', the folder of jobs in every --output")
        return name

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _known("profile", self.default_profile, self.profiles, "default_profile")
        for name, pretraining in self.pretraining.items():
            where = ("pretraining", name, "distributions")
            _distinct("distribution", pretraining.distributions, *where)
            for i, member in enumerate(pretraining.distributions):
                _known("distribution", member, self.distributions, *where, i)
                self._needs_files(member, ("pretraining", "validation", "test"), *where, i)
        _distinct("task", tuple(task.name for task in self.tasks), "tasks", key="name")
        for i, task in enumerate(self.tasks):
            _known("pretraining", task.pretraining, self.pretraining, "tasks", i, "pretraining")
            _known("distribution", task.downstream, self.distributions, "tasks", i, "downstream")
            self._needs_files(task.downstream, ("train", "validation", "test"), "tasks", i, "downstream")
        _distinct("protocol", tuple(map(str, self.protocols)), "protocols")
        return self

    def _needs_files(self, name: str, splits: Collection[Split], *where: str | int) -> None:
        files = self.distributions[name].files
        missing = [] if files is None else [split for split in splits if split not in files]
        if missing:
            raise LocatedError(f"distribution {show(name)} has no file for {', '.join(missing)}", *where)

    @property
    def source(self) -> Path:
        """The file the suite was read from."""
        return self._source

    def profile(self, name: str | None = None) -> Profile:
        """Return a profile, by default the suite's default profile.

        Raises:
            UnknownNameError: the suite has no such profile.
        """
        chosen = self.default_profile if name is None else name
        if chosen not in self.profiles:
            raise UnknownNameError("profile", chosen, self.profiles)
        return self.profiles[chosen]


def _known(kind: str, name: str, valid: Collection[str], *where: str | int) -> None:
    if name not in valid:
        raise LocatedError(f"unknown {kind} {show(name)}{suggestion(name, valid)}", *where)


def _distinct(kind: str, names: tuple[str, ...], *where: str | int, key: str | None = None) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            place = (*where, i) if key is None else (*where, i, key)
            raise LocatedError(f"{kind} {show(name)} is already at [{names.index(name)}]", *place)
