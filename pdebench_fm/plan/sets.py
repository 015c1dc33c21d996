"""The sets of examples that a suite and a profile need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pdebench_fm._util.text import printable
from pdebench_fm.data.hashing import content_hash
from pdebench_fm.data.hdf5 import HDF5Examples
from pdebench_fm.data.leaks import digests, in_common
from pdebench_fm.data.open import (
    OpenSet,
    Pair,
    SetSpec,
    difference,
    file_examples,
    make_sampler,
    make_system,
    open_set,
    problem_of,
)
from pdebench_fm.data.values import check_values
from pdebench_fm.errors import PLUGIN_ERRORS, DataFileError, UsageError, suggestion
from pdebench_fm.interfaces import Split
from pdebench_fm.plan.arms import Arm, make_arm
from pdebench_fm.plan.job import PRETRAINING
from pdebench_fm.plan.protocol import protocol_spec
from pdebench_fm.problem import Fields, Grid, Problem
from pdebench_fm.registry import Registry
from pdebench_fm.registry import registry as installed
from pdebench_fm.registry.arguments import bind
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.suite.reading import find_distribution
from pdebench_fm.suite.scale import Profile
from pdebench_fm.suite.schema import RESERVED, Distribution, Pretraining, Suite, SuiteTask, Use


def with_objective(spec: SetSpec, objective: Use, registry: Registry) -> SetSpec:
    """Describe the inputs of a set, without its solutions, as an objective of pre-training presents them."""
    arguments = bind(registry.load("objectives", objective.name), objective.arguments)
    described = {**_versioned(registry, "objectives", objective.name), "arguments": arguments}
    return replace(spec, description={**spec.description, "objective": described})


def specify(
    distribution: Distribution, registry: Registry, split: Split, count: int, grid: int, data_seed: int
) -> SetSpec:
    """Describe ``count`` examples of one split of a distribution."""
    common = {"split": split, "count": count}
    if distribution.files is not None:
        path = _file(distribution.files, split)
        available = len(file_examples(path, distribution.system, registry, "cpu")[0])
        if available < count:
            pool = "; few-shot sets are drawn from examples.pool of the profile" if split == "train" else ""
            raise UsageError(f"{path}: the suite asks for {count} {split} examples, the file has {available}{pool}")
        description: dict[str, Any] = {**common, "file": content_hash(path)}
        if distribution.system is not None:
            description["system"] = _versioned(registry, "systems", distribution.system)
        return SetSpec(description, path, distribution.physics)
    assert distribution.system is not None
    name = distribution.sampler_name(registry)
    settings = bind(registry.load("samplers", name), distribution.settings, reserved=RESERVED)
    described = {
        **common,
        "system": _versioned(registry, "systems", distribution.system),
        "sampler": _versioned(registry, "samplers", name),
        "settings": settings,
        "grid": grid,
        "data_seed": data_seed,
    }
    if distribution.sampler is not None:  # the system's own sampler fits
        _check_inputs(described, registry)
    return SetSpec(described)


def _check_inputs(description: Mapping[str, Any], registry: Registry) -> None:
    """Make one example to see whether the sampler fits the system, before any job runs."""
    import torch

    name, system = (
        description["sampler"]["name"],
        make_system(description["system"]["name"], registry, Grid(description["grid"])),
    )

    def make() -> Fields:
        sampler = make_sampler(description, registry)
        return sampler.realise(sampler.draw([0]), system.problem.grid, "cpu", torch.float32)

    made = call_plugin(f"sampler {name!r}", make)
    missing = [channel for channel in system.problem.input_names if channel not in made]
    if missing:
        raise UsageError(
            f"sampler {name!r} does not go with system {description['system']['name']!r}: "
            f"it makes {', '.join(made)} and not {', '.join(missing)}"
        )


def check_files(suite: Suite, registry: Registry, profile: str | None = None) -> None:
    """Open every file that the suite names.

    Refused are test examples that are also used for training or validation, in one file or in two, and files of one
    distribution that state different problems.

    Args:
        profile: the files must have the grid of this profile; by default the suite's default profile.
    """
    chosen = suite.default_profile if profile is None else profile
    grid = suite.profile(chosen).grid
    uses: list[tuple[Split, Path, str, list[str]]] = []
    for name, distribution in suite.distributions.items():
        for split, path, examples in check_one_problem(name, distribution, registry):
            size = examples.problem.grid.size
            if size != grid:
                wanted = f"{grid} × {grid}, got {size} × {size}"
                raise DataFileError(f"{path}: must have the grid of profile {chosen!r}, {wanted}")
            uses.append((split, path, f"{name!r} ({printable(str(path), 1000)})", digests(path, examples)))
    for (split, _, where, mine), (other, _, elsewhere, theirs) in itertools.product(uses, uses):
        if split == "test" and other != "test" and (leaked := in_common(mine, theirs)):
            raise DataFileError(
                f"{len(leaked)} of {len(mine)} test examples of {where} are also {other} examples of {elsewhere}, the "
                f"first is example {leaked[0]} (from 0): nothing else may use a test set"
            )


def check_one_problem(
    name: str, distribution: Distribution, registry: Registry
) -> list[tuple[Split, Path, HDF5Examples]]:
    """Check that all files of a distribution state one problem; return each with its examples."""
    found: list[tuple[Split, Path, HDF5Examples]] = []
    for split, path in (distribution.files or {}).items():
        examples = file_examples(path, distribution.system, registry, "cpu")[0]
        found.append((split, path, examples))
        constants = examples.problem.constants
        if distribution.physics is not None and distribution.physics not in constants:
            what = f"physics of {name!r} must be a constant of its files, got {distribution.physics!r}"
            raise DataFileError(f"{path}: {what}{suggestion(distribution.physics, constants)}")
        _, first, expected = found[0]
        if differs := difference(examples.problem, expected.problem):
            raise DataFileError(f"{path}: the files of {name!r} must state one problem, that of {first}: {differs}")
    return found


def _versioned(registry: Registry, kind: Any, name: str) -> dict[str, str]:
    return {"name": name, "version": registry.get(kind, name).version}


def _file(files: Mapping[Split, Path], split: Split) -> Path:
    if split not in files:
        raise UsageError(f"the distribution has no file for split {split!r}; it has {', '.join(files)}")
    return files[split]


def comparable_pairs(suite: Suite, profile_name: str, registry: Registry) -> dict[str, Pair]:
    """Return the source and target of each task, like `Plan.pairs`, as far as their physics can be compared.

    Returns:
        the pairs by task, without tasks and parts of mixtures that are read from files without ``physics``, or cannot
        be described.
    """
    profile = suite.profile(profile_name)
    sets = ProfileSets(suite, profile, registry)
    every = suite.distributions.items()
    drawn = {name for name, distribution in every if not distribution.files or distribution.physics}
    pairs: dict[str, Pair] = {}
    for task in suite.tasks_at(profile):
        if task.downstream in drawn:
            with suppress(*PLUGIN_ERRORS):  # a sampler that raises, or a file that is not here, costs this task only
                source = [name for name in suite.pretraining[task.pretraining].distributions if name in drawn]
                pairs[task.name] = sets.pair(task, source)
    return pairs


def check_sets(suite: Suite, profile_name: str, registry: Registry) -> None:
    """Check that files have the examples and channels that a plan on this profile needs, and values it can use.

    Files for pre-training may be missing, because runs with the user's own weights do not need them.
    """
    read = {name: distribution.files for name, distribution in suite.distributions.items() if distribution.files}
    if not read:
        return
    profile = suite.profile(profile_name)
    sets = ProfileSets(suite, profile, registry)
    transfers = any(arm.pretrained for arm in arms_of(suite, profile, registry))
    found: list[SetSpec] = []
    for task in suite.tasks:
        if task.downstream in read:
            found += itertools.chain(*sets.downstream(task).values())
        for name in suite.pretraining[task.pretraining].distributions:
            if name in read and transfers and not {PRETRAINING, "validation", "test"} - read[name].keys():
                found += itertools.chain(*sets.pretraining(Pretraining(distributions=(name,))).values())
    check_values(found, registry)


class ProfileSets:
    """The sets of one profile, each described once, because thousands of jobs share a few."""

    def __init__(self, suite: Suite, profile: Profile, registry: Registry) -> None:
        self._suite = suite
        self._profile = profile
        self._registry = registry
        self._specified: dict[tuple[str, Split, int, int], SetSpec] = {}

    def pair(self, task: SuiteTask, source: Sequence[str]) -> Pair:
        """Describe the source of a task, some distributions, and its target."""
        counts = self._profile.examples
        return Pair(
            self.of(source, PRETRAINING, counts.pretraining),
            self.of([task.downstream], "test", counts.test),
        )

    def downstream(self, task: SuiteTask) -> dict[str, tuple[SetSpec, ...]]:
        """Describe the splits of a task: training, validation and test."""
        counts, one = self._profile.examples, [task.downstream]
        return {
            "train": self.of(one, "train", counts.pool_size),
            "validation": self.of(one, "validation", self._profile.downstream_validation),
            "test": self.of(one, "test", counts.test, task.test_grid),
        }

    def pretraining(self, pretraining: Pretraining) -> dict[str, tuple[SetSpec, ...]]:
        """Describe the splits of a pre-training: training, validation and test."""
        counts, distributions, objective = self._profile.examples, pretraining.distributions, pretraining.objective
        sets = {
            "train": self.of(distributions, PRETRAINING, counts.pretraining),
            "validation": self.of(distributions, "validation", counts.validation),
            "test": self.of(distributions, "test", counts.test),
        }
        if objective is None:
            return sets
        return {
            name: tuple(with_objective(spec, objective, self._registry) for spec in specs)
            for name, specs in sets.items()
        }

    def learned_problem(self, pretraining: Pretraining) -> Problem:
        """Return the problem a model is pre-trained for; with an objective, it has the outputs of the system too."""
        labelled = self.of(pretraining.distributions, PRETRAINING, self._profile.examples.pretraining)
        learned = self.pretraining(pretraining)["train"]
        return Problem.union(problem_of(spec, self._registry) for spec in (*labelled, *learned))

    def of(
        self, distributions: Sequence[str], split: Split, count: int, grid: int | None = None
    ) -> tuple[SetSpec, ...]:
        """Describe ``count`` examples of each distribution, by default on the grid of the profile."""
        return tuple(self._one(name, split, count, grid or self._profile.grid) for name in distributions)

    def _one(self, name: str, split: Split, count: int, grid: int) -> SetSpec:
        key = (name, split, count, grid)
        if key not in self._specified:
            distribution = self._suite.distributions[name]
            self._specified[key] = specify(distribution, self._registry, split, count, grid, self._suite.data_seed)
        return self._specified[key]


def expected_rows(suite: Suite, profile_name: str, registry: Registry) -> Iterator[tuple[str, str, int, int]]:
    """Yield (task, protocol, examples, seed) of every record in a complete run."""
    profile = suite.profile(profile_name)
    arms = arms_of(suite, profile, registry)
    for task in suite.tasks_at(profile):
        for arm in arms:
            for examples, seed in arm.cells(profile.seeds):
                yield task.name, arm.name, examples, seed


def arms_of(suite: Suite, profile: Profile, registry: Registry) -> list[Arm]:
    """Return the arms of a suite at the sizes of a profile."""
    counts = profile.examples
    specs = [protocol_spec(registry, used.name, used.arguments) for used in suite.protocols]
    return [make_arm(spec, counts.downstream, counts.pool_size, registry) for spec in specs]


def open_distribution(
    distribution: str, *, split: Split, count: int, grid: int, device: str, registry: Registry | None = None
) -> OpenSet:
    """Open examples like `load_examples`, with their PDE."""
    registry = registry if registry is not None else installed()
    suite, name = find_distribution(distribution, registry)
    spec = specify(suite.distributions[name], registry, split, count, grid, suite.data_seed)
    return open_set(spec, registry, device)
