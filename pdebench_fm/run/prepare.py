"""Checks before any work, and the plans of a run: one for a model, several for a family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pdebench_fm._util.text import named
from pdebench_fm.data.hashing import hash_of
from pdebench_fm.data.open import SetCache, problem_of
from pdebench_fm.data.values import check_values
from pdebench_fm.errors import PLUGIN_ERRORS, DataFileError, PdefmError, UnsupportedError, UsageError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.plan.model import ModelSpec, Weights, entry_of, model_spec
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.planner import chosen_tasks, make_plan
from pdebench_fm.plan.sets import check_files, specify
from pdebench_fm.plan.store import check_weights
from pdebench_fm.registry import Registry, registry
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.registry.loading import to_standard_error
from pdebench_fm.run.devices import check_precision, resolve_device
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.schema import Suite

Model: TypeAlias = str | ModelEntry | type[OperatorModel]
"""A registered name or family, an entry, or a class."""


@to_standard_error()
def prepare(
    model: Model | Sequence[Model],
    suite: str | Path,
    profile: str | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    tasks: str | Sequence[str] = (),
    seeds: int | None = None,
    pretrained: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    output: str | Path = "runs",
    installed: Registry | None = None,
    elsewhere: bool = False,
) -> list[Plan]:
    """Check all that can be checked before any work, and plan the jobs.

    Nothing is computed or written. Arguments are those of `pdebench_fm.evaluate`; ``installed`` replaces the registry
    of installed plugins. ``elsewhere`` says that jobs run on other machines, so this one need not have the device.

    Returns:
        a plan for each model; for a family, one for each of its sizes.
    """
    names, found = _named(model, registry() if installed is None else installed)
    if not names:
        raise UsageError("model must be a name, an entry, a class, or a list of at least one of these")
    tasks = (tasks,) if isinstance(tasks, str) else tasks
    for setting, path in (("output", output), ("pretrained", pretrained)):
        if path == "":
            raise UsageError(f"{setting} must not be empty; '.' is the current folder")
    check_precision(precision, device)
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds must be at least 1, got {seeds}")
    loaded = load_suite(suite, found)
    chosen = loaded.default_profile if profile is None else profile
    loaded.profile(chosen)
    check_files(loaded, found, chosen)

    families = {name: _members(found, name, loaded, chosen) if loaded.family else [] for name in names}
    members = [member for name in names for member in families[name] or [name]]
    if len(members) > 1 and pretrained is not None:
        are = ", ".join(members) if len(names) > 1 else f"{names[0]} is a family; name one of {', '.join(members)}"
        raise UsageError(f"weights belong to one model, {are}")
    where = resolve_device(device, here=not elsewhere)
    plans: list[Plan] = []
    for name in dict.fromkeys(members):
        spec = model_spec(found, name, arguments)
        weights = None
        if pretrained is not None:
            device_of_check = "cpu" if elsewhere else where
            weights = _check_weights(Path(pretrained), spec, loaded, chosen, found, device_of_check, tasks)
        spec = spec.in_run(precision, weights.sha256 if weights else "")
        plan = make_plan(
            loaded,
            chosen,
            spec,
            found,
            output=Path(output),
            seeds=seeds,
            device=where,
            precision=precision,
            weights=weights,
            tasks=tasks,
        )
        same = next((other.model for other in plans if other.model.describe() == spec.describe()), None)
        if same is not None:
            raise UsageError(f"with these arguments {name} and {same.entry} are the same model")
        check_values(plan.sets, found)
        plans.append(plan)
    if all(plan.refusal for plan in plans):
        raise UnsupportedError(plans[0].refusal)
    return plans


def _named(model: Model | Sequence[Model], found: Registry) -> tuple[list[str], Registry]:
    """Return the names of models, and a registry that has those that are not registered."""
    names: list[str] = []
    given: Sequence[Any] = model if isinstance(model, list | tuple) else [model]
    for one in given:
        if not isinstance(one, str):
            entry = one if isinstance(one, ModelEntry) else entry_of(one)
            found = found.with_model(entry)
        name = one if isinstance(one, str) else entry.name
        if name in names:
            raise UsageError(f"model {name} is named twice")
        names.append(name)
    return names, found


def _members(found: Registry, family: str, suite: Suite, profile: str) -> list[str]:
    """Return the names of a family's registered sizes, smallest first, without the family's own name.

    Networks are built without memory to count their weights for the first task; other models come first, by name.
    """
    from pdebench_fm.training import NetworkModel
    from pdebench_fm.training.calling import count_parameters, without_memory

    models = found.entries("models") if family else ()
    names = [entry.name for entry in models if entry.family == family and entry.name != family]
    if not names:
        return []
    grid = suite.profile(profile).grid
    distribution = suite.distributions[suite.tasks[0].downstream]
    problem = problem_of(specify(distribution, found, "train", 1, grid, suite.data_seed), found)

    def size(name: str) -> int:
        made = model_spec(found, name).make(found)
        if not isinstance(made, NetworkModel):
            return 0
        try:
            return count_parameters(without_memory(made.build, problem))
        except PLUGIN_ERRORS:  # a network that cannot be built here or in this way
            return 0

    return sorted(names, key=size)


def _check_weights(
    path: Path,
    spec: ModelSpec,
    suite: Suite,
    profile_name: str,
    found: Registry,
    device: str,
    tasks: Sequence[str],
) -> Weights:
    """Load the user's weights once, and predict one validation example of every task that is run with them."""
    if not path.exists():
        raise DataFileError(f"{path}: there are no such weights")
    model = spec.make(found)
    if not model.learns_from_pretraining:
        raise UsageError(f"{spec.name} does not learn from pre-training, so no weights can replace it")
    kept = (path if path.is_dir() else path.parent).resolve()
    if kept.with_name(f"{kept.name}.sha256").exists():  # they are in a folder of results
        check_weights(kept)
    try:
        model.load(path, device)
    except PdefmError:
        raise
    except PLUGIN_ERRORS as error:
        raise DataFileError(f"{path}: cannot be read as weights of {spec.name}: {named(error)}") from error
    profile = suite.profile(profile_name)
    cache = SetCache(found, device)
    for task in chosen_tasks(suite.tasks_at(profile), tasks):
        distribution = suite.distributions[task.downstream]
        one = specify(distribution, found, "validation", 1, profile.grid, suite.data_seed)
        opened = call_plugin(f"examples of {task.downstream!r}", cache.open, one)
        inputs, _ = call_plugin(opened.name, opened.examples.batch, [0])
        try:
            model.predict(opened.examples.problem, inputs)
        except PLUGIN_ERRORS as error:
            raise UnsupportedError(f"{path}: cannot be used for task {task.name!r}: {named(error)}") from error
    return Weights(str(path), hash_of(path))
