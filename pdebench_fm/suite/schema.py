"""The pydantic models of a suite file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
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
from pdebench_fm.suite.scale import Model, Profile

_SUITE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DISTRIBUTION_KEYS = ("system", "sampler", "files")
_FILE_KEYS = ("files", "system", "physics")

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


class Distribution(Model):
    """The source of a distribution's examples: a sampler, or HDF5 files.

    Args:
        system: the PDE. A sampler needs it. With files it is optional and adds the residual.
        sampler: name of the sampler; by default the system's own.
        settings: all other keys, for the sampler.
        files: one HDF5 file per split, relative to the suite file.
        physics: with files, the constant that quantifies the physics. By it, pre-training and downstream examples are
            compared; a sampler has its own.
    """

    system: str | None = None
    sampler: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    files: dict[Split, Path] | None = None
    physics: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _collect_settings(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or not info.context:  # built in Python, not read from a suite
            return data
        own = (*_DISTRIBUTION_KEYS, *_FILE_KEYS) if "files" in data else _DISTRIBUTION_KEYS
        known = {key: value for key, value in data.items() if key in own}
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
            raise LocatedError(f"unknown key beside files{suggestion(key, _FILE_KEYS)}", key, at_key=True)
        if not self.files:
            raise LocatedError(f"must name a file for some of {', '.join(SPLITS)}", "files")
        return self

    def sampler_name(self, registry: Registry) -> str:
        """Return the name of the sampler, by default the system's own."""
        if self.sampler is not None:
            return self.sampler
        if self.system is None or self.files is not None:
            raise UsageError("the distribution is read from files; it has no sampler")
        name: str = registry.get("systems", self.system).sampler
        if not name:
            raise UsageError(f"system {self.system!r} has no sampler of its own; name one with sampler: …")
        return name


class SuiteTask(Model):
    """One transfer from a pre-training to a downstream distribution, and its shift."""

    name: Name
    pretraining: str
    downstream: str
    shift: Literal["none", "mild", "med", "large"]
    _test_grid: int | None = PrivateAttr(default=None)

    @property
    def test_grid(self) -> int | None:
        """Points along each side of the test examples; None for the grid of the profile."""
        return self._test_grid

    def tested_on(self, grid: int) -> SuiteTask:
        """Return the task with test examples on another grid, under a name that says so."""
        other = self.model_copy(update={"name": f"{self.name} on {grid}²"})
        other._test_grid = grid
        return other


class Use(Model):
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


class Pretraining(Model):
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


class Suite(Model):
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
    tasks: Annotated[tuple[SuiteTask, ...], Field(min_length=1)]
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
        for name, profile in self.profiles.items():
            on_grids = [task.name for task in self.tasks_at(profile) if task.test_grid]
            if taken := [task.name for task in self.tasks if task.name in on_grids]:
                message = f"task {show(taken[0])} has the name of a task on a test grid"
                raise LocatedError(message, "profiles", name, "test_grids")
            read = [task.downstream for task in self.tasks if self.distributions[task.downstream].files is not None]
            if read and profile.test_grids:
                message = f"distribution {show(read[0])} is read from files, which have one grid"
                raise LocatedError(message, "profiles", name, "test_grids")
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

    def tasks_at(self, profile: Profile) -> list[SuiteTask]:
        """Return the tasks at the scale of a profile: each on its grid, then on each of its test grids."""
        return [other for task in self.tasks for other in (task, *map(task.tested_on, profile.test_grids))]

    def profile(self, name: str | None = None) -> Profile:
        """Return a profile, by default the suite's default profile."""
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
