"""The whole of a run in a few calls: what the command line does, for Python programs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pdebench_fm._util.files import replacing
from pdebench_fm._util.text import named, reason_of
from pdebench_fm.data.open import SetCache, hash_of, problem_of
from pdebench_fm.errors import FOREIGN, DataFileError, PdefmError, UnknownNameError, UnsupportedError, UsageError
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Examples, Executor, OperatorModel, Split
from pdebench_fm.plan.job import Job, Plan
from pdebench_fm.plan.model import ModelSpec, Weights, entry_of, model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import check_files, open_distribution, specify
from pdebench_fm.records.frame import load_records as load_records
from pdebench_fm.records.record import Cell
from pdebench_fm.registry import Registry, registry
from pdebench_fm.registry.arguments import plain
from pdebench_fm.registry.calling import asked
from pdebench_fm.run.distributed import Group
from pdebench_fm.run.executors import InProcessExecutor, ProcessExecutor, threads_of
from pdebench_fm.run.runner import Reporter, RunResult, pending, run_plan
from pdebench_fm.run.worker import Outcome, Perform
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.schema import Suite
from pdebench_fm.training.precision import PRECISIONS


@dataclass(frozen=True)
class Prepared:
    """A run that has been checked and planned; nothing has been computed or written."""

    plan: Plan
    registry: Registry
    device: str
    output: Path


def prepare(
    model: str | ModelEntry | type[OperatorModel],
    suite: str | Path,
    profile: str | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    pretrained: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    output: str | Path = "runs",
) -> Prepared:
    """Check all that can be checked before any work, and plan the jobs of one model; arguments as for `evaluate`.

    Raises:
        UsageError: anything wrong with the arguments, the suite, or the model for it; or the model is a family.
    """
    every = prepare_all(
        model,
        suite,
        profile,
        arguments=arguments,
        seeds=seeds,
        pretrained=pretrained,
        device=device,
        precision=precision,
        output=output,
    )
    if len(every) > 1:
        raise UsageError(f"{model} is a family of {len(every)} models here; name one, or use prepare_all")
    return every[0]


def prepare_all(
    model: str | ModelEntry | type[OperatorModel],
    suite: str | Path,
    profile: str | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    pretrained: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    output: str | Path = "runs",
) -> list[Prepared]:
    """Like `prepare`, for every member of a family where the suite scores families; otherwise for the one model.

    Raises:
        UnsupportedError: the model, or every member of the family, can take none of the tasks.
        UsageError: as `prepare`; or weights were given for a family.
    """
    found = registry()
    if not isinstance(model, str):
        entry = model if isinstance(model, ModelEntry) else entry_of(model)
        found = found.with_model(entry)
        model = entry.name
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if seeds is not None and seeds < 1:
        raise UsageError(f"seeds must be at least 1, got {seeds}")
    loaded = load_suite(suite, found)
    chosen = loaded.default_profile if profile is None else profile
    loaded.profile(chosen)
    check_files(loaded, chosen)
    members = _members(found, model, loaded, chosen) if loaded.family else []
    if members and pretrained is not None:
        raise UsageError(f"weights belong to one model, {model} is a family; name one of {', '.join(members)}")
    where = resolve_device(device)
    _check_precision(precision, device)  # where auto chose, this may be the plan of a run on another machine
    every: list[Prepared] = []
    for name in members or [model]:
        spec = model_spec(found, name, arguments)
        weights = None
        if pretrained is not None:
            weights = _check_weights(Path(pretrained), spec, loaded, chosen, found, where)
        plan = make_plan(loaded, chosen, spec, found, seeds=seeds, precision=precision, weights=weights)
        same = next((p.plan.model.name for p in every if p.plan.model.describe() == spec.describe()), None)
        if same is not None:
            raise UsageError(f"with these arguments {name} and {same} of the family {model} are the same model")
        every.append(Prepared(plan, found, where, Path(output)))
    if all(prepared.plan.refusal for prepared in every):
        raise UnsupportedError(every[0].plan.refusal)
    return every


def _check_precision(precision: str, device: str) -> None:
    """Refuse what would be float32 under another name: its results would pass for those of a GPU."""
    if precision == "tf32" and device == "cpu":
        raise UsageError("precision tf32 exists on CUDA devices only, and this run is on the cpu; use float32")


def _members(found: Registry, family: str, suite: Suite, profile: str) -> list[str]:
    """Names of a family's registered sizes, smallest first, without the entry that bears the family's own name.

    Networks are built without memory to count their weights, as the first task has them; what is no network comes in
    front, by name.
    """
    import torch

    from pdebench_fm.training import NetworkModel

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
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                return sum(parameter.numel() for parameter in made.build(problem).parameters())
        except FOREIGN:  # somebody else's network, that cannot be built here or in this way
            return 0

    return sorted(names, key=size)


def execute(
    prepared: Prepared, reporter: Reporter | None = None, workers: int = 1, group: Group | None = None
) -> RunResult:
    """Do what is left of a prepared run; write records, table and figures.

    Args:
        prepared: what to do.
        reporter: hears of progress.
        workers: processes that do jobs side by side. On ``cuda`` they are dealt the visible GPUs in turn, on ``cuda:N``
            they share that one.
        group: processes that fit every trial together, see `together`; there are then no workers.

    Raises:
        UsageError: there is something to fit, and the precision does not exist on the device; nothing has been written.
    """
    if prepared.plan.precision == "tf32" and any(pending(prepared.plan, prepared.registry, prepared.output)):
        _check_precision(prepared.plan.precision, prepared.device)
    from pdebench_fm.figures import draw
    from pdebench_fm.run.distributed import device_of
    from pdebench_fm.scoring.shift import RealisedShift
    from pdebench_fm.tables import build_table, to_markdown

    executor: Executor[Job, Outcome] = InProcessExecutor()
    if workers > 1 and group is None:
        executor = ProcessExecutor(
            workers, threads_of(workers), gpus_of(prepared.device), copies=prepared.device == "cpu"
        )
    result = run_plan(
        prepared.plan,
        prepared.registry,
        prepared.output,
        device=prepared.device if group is None else device_of(prepared.device, group.local_rank),
        reporter=reporter,
        executor=executor,
        group=group,
    )
    table = to_markdown(build_table(result.records, planned_cells(prepared.plan)))
    shown, figures = result.folder / "table.md", result.folder / "figures"
    if not (shown.exists() and figures.is_dir() and shown.read_bytes() == table.encode()):
        pairs = prepared.plan.pairs
        draw(result.records, figures, realised=lambda found: RealisedShift(prepared.registry).redrawn(found, pairs))
        with replacing(shown) as temporary:  # another run may be reading or writing it
            temporary.write_text(table, encoding="utf-8")
    return result


@contextmanager
def together(prepared: Prepared, processes: int) -> Iterator[Group | None]:
    """The processes that fit every trial of a prepared run together.

    Args:
        prepared: what they will do.
        processes: how many to start on this machine; 1 where torchrun has started them, or for this process alone.

    Yields:
        the group, whose leader calls `execute` with it; None where this process works alone. Processes that torchrun
        started and that do not lead have done all their work when they get the group.
    """
    from pdebench_fm.run.distributed import device_of, gathered, launched, launched_by_torchrun

    if processes > 1 or launched_by_torchrun():
        _check_precision(prepared.plan.precision, prepared.device)
    follow = Perform(prepared.plan, prepared.registry, prepared.output, prepared.device).follow
    if launched_by_torchrun():
        with launched(prepared.device) as group:
            if not group.leads:
                follow(group, device_of(prepared.device, group.local_rank))
            yield group
    elif processes > 1:
        device_of(prepared.device, processes - 1)  # refuses where there are too few
        with gathered(processes, prepared.device, threads_of(processes), follow) as group:
            yield group
    else:
        yield None


def evaluate(
    model: str | ModelEntry | type[OperatorModel],
    suite: str | Path,
    profile: str | None = None,
    *,
    arguments: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    pretrained: str | Path | None = None,
    device: str = "auto",
    precision: str = "float32",
    output: str | Path = "runs",
    workers: int = 1,
    reporter: Reporter | None = None,
) -> RunResult:
    """Score a model on a suite, as ``pdefm run`` does, but in this process unless ``workers`` asks for more.

    Args:
        model: a registered name, an entry, or a subclass of `OperatorModel` (its version is then the SHA-256 of the
            source file it is defined in, so that results of older code are not reused).
        suite: name of a shipped suite, or path of a suite file.
        profile: scale; the suite's default where None.
        arguments: overrides of the model's arguments.
        seeds: number of seeds; the profile's where None.
        pretrained: the user's own weights, as the model's `save` writes them, instead of pre-training jobs.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: arithmetic of training; evaluation is float32.
        output: folder of results; what it holds already is not computed again.
        workers: processes that do jobs side by side, see `execute`; the model must then be importable from a module.
        reporter: hears of progress.

    Returns:
        one record per scored point, and the folder with ``records.jsonl``, ``table.md`` and ``figures/``; of a family,
        the records of all its members, and the folder above theirs.

    Raises:
        UsageError: anything wrong with the arguments, the suite, or the model for it; nothing has been written then.
    """
    every = prepare_all(
        model,
        suite,
        profile,
        arguments=arguments,
        seeds=seeds,
        pretrained=pretrained,
        device=device,
        precision=precision,
        output=output,
    )
    results = [execute(prepared, reporter, workers) for prepared in every]
    if len(results) == 1:
        return results[0]
    scored = [record for result in results for record in result.records]
    return RunResult(scored, results[0].folder.parent, any(result.changed for result in results))


def load_examples(
    distribution: str,
    *,
    split: Split = "train",
    count: int = 1024,
    grid: int = 128,
    device: str = "cpu",
) -> Examples:
    """Return examples of a distribution of a suite, solved when asked for.

    Args:
        distribution: ``SUITE:NAME``, e.g. ``ood_sys1:SYS-1(1,5)``.
        split: ``pretraining``, ``train``, ``validation`` or ``test``.
        count: number of examples; the first ones are the same whatever the count, unless a file has the layout of the
            authors, which is sorted: as many are taken of it at even distances.
        grid: points a side (for a distribution read from files, the file's).
        device: torch device.
    """
    return open_distribution(distribution, split=split, count=count, grid=grid, device=device).examples


def planned_cells(plan: Plan) -> list[Cell]:
    """The cells that the plan's records fill, pre-trainings left out."""
    return [Cell(row.task, row.protocol, row.examples, row.seed) for row in plan.rows if row.kind == "point"]


def resolve_device(device: str) -> str:
    """Return the torch device to use.

    Raises:
        UsageError: no such device here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if device.startswith("cuda"):
        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise UsageError(f"device {device!r}: this machine has {count} CUDA devices")
    return device


def gpus_of(device: str) -> list[str]:
    """Return the GPUs that ``cuda`` stands for, as ``CUDA_VISIBLE_DEVICES`` names them; none for any other device."""
    import torch

    if device != "cuda":
        return []
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in named.split(",")][:count] if named else [str(number) for number in range(count)]


def _check_weights(
    path: Path, spec: ModelSpec, suite: Suite, profile_name: str, found: Registry, device: str
) -> Weights:
    """Load the user's weights once and predict one validation example of every task with them."""
    if not path.exists():
        raise DataFileError(f"{path}: there are no such weights")
    untrained = spec.make(found)  # what is registered may be a class, or a function that makes a model
    if not untrained.learns_from_pretraining:
        raise UsageError(f"{spec.name} does not learn from pre-training, so that no weights can replace it")
    try:
        model = type(untrained).load(path, device)
    except PdefmError:
        raise
    except FOREIGN as error:  # a model of somebody else may raise anything
        raise DataFileError(f"{path}: cannot be read as weights of {spec.name}: {named(error)}") from error
    given = {name: vars(model)[name] for name in spec.arguments if name in vars(model)}
    made_with = plain(found.load("models", spec.name), given)
    for name, value in made_with.items():
        if value != spec.arguments[name]:
            raise UsageError(
                f"{path}: the weights were made with {name}={value}, {spec.name} has {name}={spec.arguments[name]}"
            )
    profile = suite.profile(profile_name)
    cache = SetCache(found, device)
    for task in suite.tasks:
        distribution = suite.distributions[task.downstream]
        one = specify(distribution, found, "validation", 1, profile.grid, suite.data_seed)
        opened = asked(f"examples of {task.downstream!r}", partial(cache.open, one), through=(PdefmError,))
        inputs, _ = asked(opened.name, partial(opened.examples.batch, [0]), through=(PdefmError,))
        try:
            model.predict(opened.examples.problem, inputs)
        except FOREIGN as error:
            raise UnsupportedError(f"{path}: cannot be used for task {task.name!r}: {reason_of(error)}") from error
    return Weights(str(path), hash_of(path))
