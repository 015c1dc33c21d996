"""Open the examples that a job describes.

A job describes its data by content: system, settings, seed, split, count and grid, or the SHA-256 of a file. The path
of a file on this machine is kept beside the job.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pdebench_fm._util.identity import canonical_json
from pdebench_fm._util.memory import room_for_a_set
from pdebench_fm._util.text import printable, show
from pdebench_fm.data.combine import InMemory, Mixture, Subset, kept, size_in_memory
from pdebench_fm.data.hashing import content_hash
from pdebench_fm.data.hdf5 import HDF5Examples, published_grid
from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.data.unlabelled import Unlabelled
from pdebench_fm.errors import DataFileError, PluginError, UsageError
from pdebench_fm.interfaces import Examples, Objective, PDESystem, Sampler
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import call
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.streams import Stream

_CACHE_BYTES = 2**31


@dataclass(frozen=True)
class SetSpec:
    """One set of examples: its identity and, if it is read, its file.

    Args:
        description: plain data; part of a job's identity.
        path: the file; not part of the identity.
        physics: the constant of the file that quantifies the physics; not part of the identity either.
    """

    description: Mapping[str, Any]
    path: Path | None = None
    physics: str | None = None

    @property
    def count(self) -> int:
        """The number of examples."""
        return int(self.description["count"])


@dataclass(frozen=True)
class OpenSet:
    """A set of examples, its PDE if it has one, and its name in messages."""

    examples: Examples
    system: PDESystem | None
    period: int = 1
    name: str = "the examples"


def make_sampler(description: Mapping[str, Any], registry: Registry) -> Sampler:
    """Make the sampler of a described set."""
    factory = registry.load("samplers", description["sampler"]["name"])
    sampler: Sampler = call(
        factory, description["settings"], data_seed=description["data_seed"], split=description["split"]
    )
    return sampler


def make_system(name: str, registry: Registry, grid: Grid) -> PDESystem:
    """Make a system on a grid."""
    factory = registry.load("systems", name)

    def make() -> PDESystem:
        system: PDESystem = factory(grid)
        size = system.problem.grid.size
        if size != grid.size:
            raise PluginError(f"system {name!r} must keep the grid's {grid.size} points a side, its problem has {size}")
        return system

    return call_plugin(f"system {name!r} of plugin {registry.owner('systems', name)}", make)


def _objective(description: Mapping[str, Any], registry: Registry) -> Objective | None:
    """Make the objective of a described set; None if it is supervised."""
    used = description.get("objective")
    if used is None:
        return None
    objective: Objective = call(registry.load("objectives", used["name"]), used["arguments"])
    return objective


def problem_of(spec: SetSpec, registry: Registry) -> Problem:
    """Return the problem of a described set."""
    objective = _objective(spec.description, registry)
    problem = _labelled_problem(spec, registry)
    return problem if objective is None else objective.problem(problem)


def _labelled_problem(spec: SetSpec, registry: Registry) -> Problem:
    if spec.path is not None:
        return file_examples(spec.path, _system_name(spec.description), registry, "cpu")[0].problem
    return make_system(spec.description["system"]["name"], registry, Grid(spec.description["grid"])).problem


def open_set(spec: SetSpec, registry: Registry, device: str) -> OpenSet:
    """Open a described set. Nothing is drawn, solved or read yet."""
    objective, opened = _objective(spec.description, registry), _open_labelled(spec, registry, device)
    if objective is None:
        return opened
    return replace(opened, examples=Unlabelled(opened.examples, objective), system=None)


def _open_labelled(spec: SetSpec, registry: Registry, device: str) -> OpenSet:
    description = spec.description
    if spec.path is not None:
        if content_hash(spec.path) != description["file"]:
            raise DataFileError(f"{spec.path}: the file has changed since the run was planned")
        whole, system = file_examples(spec.path, _system_name(description), registry, device)
        ids = np.arange(description["count"])
        if published_grid(spec.path) is not None:
            # The authors' files are sorted by sparsity: the first N examples would be the densest.
            ids = ids * len(whole) // len(ids)
        return OpenSet(Subset(whole, ids), system, name=printable(str(spec.path), 1000))
    system = make_system(description["system"]["name"], registry, Grid(description["grid"]))
    sampler = make_sampler(description, registry)
    name = f"{description['split']} examples of sampler {description['sampler']['name']!r}"
    return OpenSet(SampledExamples(sampler, system, description["count"], device), system, sampler.period, name)


def few_shot_ids(pool: int, examples: int, seed: int, period: int) -> np.ndarray:
    """Choose a few-shot set from a pool: nested in N for one seed, different between seeds, with every stratum.

    Whole periods of the pool are shuffled and taken from the front, so any prefix covers the strata evenly.

    Returns:
        distinct ids in [0, pool), (examples,).
    """
    blocks = -(-pool // period)
    keys = Stream({"few_shot": seed, "pool": pool}, 1).uniform(range(blocks))[:, 0]
    order = (np.argsort(keys, kind="stable")[:, None] * period + np.arange(period)).ravel()
    chosen: np.ndarray = order[order < pool][:examples]
    return chosen


class SetCache:
    """Open sets, kept while they fit: with their fields, or only with their parameters.

    Args:
        limit: bytes to keep at most; by default what the device has room for.
    """

    def __init__(self, registry: Registry, device: str, limit: int | None = None) -> None:
        import torch

        self._registry = registry
        self._device = device
        self._limit = room_for_a_set(torch.device(device), _CACHE_BYTES) if limit is None else limit
        self._sets: OrderedDict[str, OpenSet] = OrderedDict()

    def open(self, spec: SetSpec) -> OpenSet:
        """Return one set, from memory if it is there."""
        key = canonical_json(dict(spec.description))
        if key in self._sets:
            self._sets.move_to_end(key)
            return self._sets[key]
        opened = open_set(spec, self._registry, self._device)
        self._sets[key] = opened = replace(opened, examples=kept(opened.examples, self._limit))
        while len(self._sets) > 1 and sum(_bytes(each.examples) for each in self._sets.values()) > self._limit:
            self._sets.popitem(last=False)
        return opened

    def joined(self, specs: Sequence[SetSpec]) -> Examples:
        """Return one set, or a mixture of several."""
        sets = [self.open(spec).examples for spec in specs]
        return sets[0] if len(sets) == 1 else Mixture(sets)


def _bytes(examples: Examples) -> int:
    """Return the memory that a set takes now."""
    if isinstance(examples, InMemory):
        return size_in_memory(examples)
    return examples.drawn_bytes if isinstance(examples, SampledExamples) else 0  # a file is read batch by batch


def file_examples(
    path: Path, name: str | None, registry: Registry, device: str
) -> tuple[HDF5Examples, PDESystem | None]:
    """Return the examples of a file, and their PDE if the suite names it.

    The PDE reads the columns of a published file, which names nothing.
    """
    if name is None:
        return HDF5Examples(path, device=device), None
    grid = published_grid(path) or HDF5Examples(path).problem.grid
    try:
        system = make_system(name, registry, grid)
    except UsageError as error:
        raise DataFileError(f"{path}: is not of system {name!r}: {error}") from None
    examples = HDF5Examples(path, device, columns=system.read_columns)
    mine, its = examples.problem, system.problem
    if not examples.states_problem:  # only the channels are the file's own
        mine = Problem(mine.inputs, mine.outputs, its.grid, its.homogeneous)
    if found := difference(mine, its):
        raise DataFileError(f"{path}: is not of system {name!r}: {found}")
    return HDF5Examples(path, device, its, system.read_columns), system


def difference(problem: Problem, other: Problem) -> str:
    """Return how a problem differs from another one, empty if it does not; the order of channels does not count."""
    found = [
        f"{what}: got {_named(mine)}, expected {_named(its)}"
        for what, mine, its in (("inputs", problem.inputs, other.inputs), ("outputs", problem.outputs, other.outputs))
        if set(mine) != set(its)
    ]
    if problem.grid != other.grid:
        found.append(f"grid: got {problem.grid}, expected {other.grid}")
    if problem.homogeneous != other.homogeneous:
        found.append(f"homogeneous: got {show(problem.homogeneous)}, expected {show(other.homogeneous)}")
    return "; ".join(found)


def _named(channels: Sequence[Channel]) -> str:
    return ", ".join(f"{each.name} (constant)" if each.role == "constant" else each.name for each in channels)


def _system_name(description: Mapping[str, Any]) -> str | None:
    return description["system"]["name"] if "system" in description else None


@dataclass(frozen=True, eq=False)
class Pair:
    """The source and target sets of a task, whose physics are compared."""

    source: tuple[SetSpec, ...]
    target: tuple[SetSpec, ...]
