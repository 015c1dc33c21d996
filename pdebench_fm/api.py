"""Score a model, and load examples and records, from Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdebench_fm._util.files import replacing
from pdebench_fm._util.text import printable
from pdebench_fm.errors import PluginError, SettingError, UsageError
from pdebench_fm.interfaces import Examples, Schedules, Split
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.sets import open_distribution
from pdebench_fm.records.failures import failure_lines
from pdebench_fm.records.frame import load_records as load_records
from pdebench_fm.registry import Registry
from pdebench_fm.registry.arguments import bind, call, parameters_of
from pdebench_fm.registry.loading import to_standard_error
from pdebench_fm.run.devices import check_precision
from pdebench_fm.run.distributed import World
from pdebench_fm.run.prepare import Model, prepare
from pdebench_fm.run.reporting import RunProgress
from pdebench_fm.run.runner import Reporter, RunResult, run_plan, submit_plan
from pdebench_fm.run.scheduling import pending
from pdebench_fm.tables.summary import summaries

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Result(RunResult):
    """What `evaluate` returns: records, and the folder with ``records.jsonl``, ``table.md`` and ``figures/``.

    In a notebook it is shown as a table.
    """

    def __repr__(self) -> str:
        done = sum(record.status == "ok" for record in self.records)
        lines = [summary.brief() for summary in summaries(self.records, self.planned)]
        lines += [printable(line) for line in failure_lines(self.records)]
        return "\n".join([*lines, f"{done} of {len(self.records)} records ok, in {self.folder}"])

    def _repr_html_(self) -> str:
        parts = [summary.html() for summary in summaries(self.records, self.planned)]
        parts += [f"<p>{escape(line)}</p>" for line in failure_lines(self.records)]
        return "".join([*parts, f"<p>{escape(str(self.folder))}</p>"])

    def plot(self, kind: str = "errors") -> Figure:
        """Return a figure of the records; a notebook shows it.

        Args:
            kind: a key of `pdebench_fm.figures.KINDS`, such as ``errors`` or ``savings``.

        Raises:
            UnknownNameError: no such kind.
            RunError: the records do not allow it.
        """
        from pdebench_fm.figures import make_figures

        return make_figures(self.records, kind)[0]


def evaluate(
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
    workers: int = 1,
    executor: str | Executor = "local",
    progress: bool = True,
    reporter: Reporter | None = None,
) -> Result:
    """Score a model on a suite, as ``pdefm run`` does.

    Args:
        model: a registered name, an entry, or a subclass of `OperatorModel`; or a list of these, to compare them. The
            version of a subclass is a hash of the code that it runs, so results of other code are not reused.
        suite: name of a shipped suite, or path of a suite file.
        profile: scale; by default the suite's own.
        arguments: overrides of the model's arguments.
        tasks: names of the tasks to score, or one name; all by default.
        seeds: number of seeds; by default the profile's.
        pretrained: your own weights, as the model's `save` writes them, in place of pre-training.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: arithmetic of training; evaluation is float32.
        output: folder of results; what it holds already is not computed again.
        workers: jobs done side by side. With more than one, the model must be importable from a module.
        executor: where jobs run: a registered name, or a `concurrent.futures.Executor` of your own.
        progress: whether to show progress on standard error, or as bars in a notebook that has ipywidgets.
        reporter: hears of progress instead.

    Returns:
        one record per scored point, and the folder with ``records.jsonl``, ``table.md`` and ``figures/``. For a family
        or several models, the records of all, and the folder above theirs.

    Raises:
        UsageError: anything wrong with the arguments, the suite, or the model for it; nothing has been written then.
    """
    plans = prepare(
        model,
        suite,
        profile,
        arguments=arguments,
        tasks=tasks,
        seeds=seeds,
        pretrained=pretrained,
        device=device,
        precision=precision,
        output=output,
    )
    results = []
    for plan in plans:
        title = f"{plan.model.name} · " if len(plans) > 1 else ""
        if progress and reporter is None:
            with RunProgress(plan, pending(plan), title) as shown:
                results.append(score(plan, executor=executor, workers=workers, reporter=shown))
        else:
            results.append(score(plan, executor=executor, workers=workers, reporter=reporter))
    scored = [record for result in results for record in result.records]
    folder = results[0].folder if len(results) == 1 else results[0].folder.parent
    return Result(scored, folder, any(result.changed for result in results), plans[0].cells)


@to_standard_error()
def score(
    plan: Plan,
    *,
    executor: str | Executor = "local",
    executor_settings: Mapping[str, Any] | None = None,
    workers: int = 1,
    reporter: Reporter | None = None,
    world: World | None = None,
) -> RunResult:
    """Do what is left of a plan; write records, table and figures.

    Args:
        plan: as `pdebench_fm.run.prepare.prepare` makes it.
        executor: where jobs run: a registered name, or an executor of your own, which is left open.
        executor_settings: arguments of a registered executor.
        workers: jobs done side by side.
        reporter: hears of progress.
        world: the processes that fit every trial together, if there are several.

    Raises:
        UsageError: the device lacks the precision, or a setting of the executor is wrong; nothing has been written.
    """
    if plan.precision == "tf32" and pending(plan):
        check_precision(plan.precision, plan.device)
    if isinstance(executor, Executor):
        result = run_plan(plan, executor=executor, reporter=reporter, world=world)
    else:
        with _executor(plan, executor, executor_settings, workers) as made:
            result = run_plan(plan, executor=made, reporter=reporter, world=world)
    if world is None or world.is_main:
        _write_table_and_figures(plan, result)
    return result


def submit(plan: Plan, executor: str, executor_settings: Mapping[str, Any] | None = None) -> int:
    """Submit what is left of a plan, and leave it to the executor; return the number of jobs.

    Raises:
        UsageError: jobs of this executor end with this process.
    """
    made = _executor(plan, executor, executor_settings, 1)
    try:
        if not isinstance(made, Schedules):
            raise UsageError(f"--detach: jobs of executor {executor} end with this command; take one of a cluster")
        return submit_plan(plan, made)
    finally:
        made.shutdown(wait=False)


def _executor(plan: Plan, name: str, settings: Mapping[str, Any] | None, workers: int) -> Executor:
    return make_executor(plan.registry, name, settings or {}, workers, plan.device, plan.store.output)


def make_executor(
    registry: Registry,
    name: str,
    settings: Mapping[str, Any],
    workers: int = 1,
    device: str = "cpu",
    output: Path = Path("runs"),
) -> Executor:
    """Make a registered executor.

    Args:
        registry: has the executor.
        name: of the executor.
        settings: arguments of its factory.
        workers: jobs done side by side, for factories that take it.
        device: torch device, for factories that take it.
        output: folder of results, for factories that take it.

    Raises:
        UnknownNameError: no executor of that name.
        SettingError: an unknown or wrong setting.
    """
    bound = executor_settings(registry, name, settings)
    factory = registry.load("executors", name)
    filled_in = {"workers": workers, "device": device, "output": output}
    taken = {key: value for key, value in filled_in.items() if key in parameters_of(factory)}
    executor: Executor = call(factory, bound, **taken)
    if not isinstance(executor, Executor):
        raise PluginError(f"executor {name!r} must be a concurrent.futures.Executor, got {type(executor).__name__}")
    return executor


def executor_settings(
    registry: Registry, name: str, settings: Mapping[str, Any], workers: int | None = None
) -> dict[str, Any]:
    """Check what a registered executor is given, without making it; return its settings as plain data.

    Args:
        workers: how many the user asked for, if they did.
    """
    factory = registry.load("executors", name)
    if (workers or 1) > 1 and "workers" not in parameters_of(factory):
        raise UsageError(f"--workers: executor {name} has no workers; see its settings")
    try:
        return bind(factory, settings, reserved=("workers", "device", "output"))
    except SettingError as error:
        raise SettingError(f"executor {name}: {error.setting}", error.message) from None


def _write_table_and_figures(plan: Plan, result: RunResult) -> None:
    from pdebench_fm.figures import draw
    from pdebench_fm.plan.sets import comparable_pairs
    from pdebench_fm.scoring.shift import RealisedShift
    from pdebench_fm.tables.table import build_table, to_markdown

    # Earlier runs may have done other tasks and seeds: the parts add up, and what is left is other profiles.
    records = [*(record for record in result.others if record.profile == plan.profile_name), *result.records]
    profiles = [record for record in result.others if record.profile != plan.profile_name]
    cells = {*plan.cells, *(record.cell for record in records)}
    table = to_markdown([*build_table(records, cells), *build_table(profiles)])
    shown, figures = result.folder / "table.md", result.folder / "figures"
    if shown.exists() and figures.is_dir() and shown.read_bytes() == table.encode():
        return
    if not os.access(result.folder, os.W_OK):  # a finished run of somebody else's
        return
    pairs = {**comparable_pairs(plan.suite, plan.profile_name, plan.registry), **plan.pairs}
    draw(records, figures, realised=lambda found: RealisedShift(plan.registry).redrawn(found, pairs))
    with replacing(shown) as temporary:  # another run may be reading or writing it
        temporary.write_text(table, encoding="utf-8")


def load_examples(
    distribution: str,
    *,
    split: Split = "train",
    count: int = 1024,
    grid: int = 128,
    device: str = "cpu",
) -> Examples:
    """Return examples of a distribution of a suite; they are drawn and solved when you ask for a batch.

    Args:
        distribution: ``SUITE:NAME``, e.g. ``ood_sys1:SYS-1(1,5)``.
        split: ``pretraining``, ``train``, ``validation`` or ``test``.
        count: number of examples. The first ones are the same for every count, except in files with the authors'
            layout: these are sorted, so examples are taken at even distances.
        grid: points a side (for a distribution read from files, the file's).
        device: torch device.
    """
    return open_distribution(distribution, split=split, count=count, grid=grid, device=device).examples
