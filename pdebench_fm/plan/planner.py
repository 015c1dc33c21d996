"""From a suite and a model to a plan: every job, and the rows of results they fill."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pdebench_fm.data.open import SetSpec, problem_of
from pdebench_fm.errors import PluginError, UnknownNameError, UnsupportedError, UsageError
from pdebench_fm.interfaces import Budget, OperatorModel, TransferProtocol
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.arms import Arm
from pdebench_fm.plan.job import PRETRAINING, FewShot, Point, Start, Trial
from pdebench_fm.plan.model import ModelSpec, Weights
from pdebench_fm.plan.plan import Plan, PlannedRow
from pdebench_fm.plan.search import check_space, in_words
from pdebench_fm.plan.sets import ProfileSets, arms_of
from pdebench_fm.plan.store import JobStore
from pdebench_fm.problem import Problem
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import call_plugin, refusal_reason
from pdebench_fm.suite.schema import Suite, SuiteTask
from pdebench_fm.training import NetworkModel


def make_plan(
    suite: Suite,
    profile_name: str,
    model: ModelSpec,
    registry: Registry,
    *,
    output: Path = Path("runs"),
    seeds: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
    weights: Weights | None = None,
    tasks: Sequence[str] = (),
) -> Plan:
    """Plan every job of ``model`` on one profile of ``suite``.

    In a suite for families, a model that can take none of the tasks is planned too; see `Plan.refusal`.

    Args:
        seeds: number of seeds; the profile's by default.
        weights: the user's own weights in place of pre-training.
        tasks: names of the tasks to plan; all by default.
    """
    profile = suite.profile(profile_name)
    plan = Plan(suite, profile_name, profile, model, registry, JobStore(output), device, precision, weights)
    _Planner(plan, profile.seeds if seeds is None else seeds, chosen_tasks(suite.tasks_at(profile), tasks)).build()
    return plan


def chosen_tasks(tasks: Sequence[SuiteTask], names: Sequence[str]) -> list[SuiteTask]:
    """Return the tasks of these names, all if there are none; UnknownNameError for a name that no task has."""
    known = [task.name for task in tasks]
    for name in names:
        if name not in known:
            raise UnknownNameError("task", name, known)
    return [task for task in tasks if not names or task.name in names]


class _Planner:
    """Builds one plan; holds what every step of it needs."""

    def __init__(self, plan: Plan, seeds: int, tasks: Sequence[SuiteTask]) -> None:
        self.plan = plan
        self.registry = plan.registry
        self.seeds = seeds
        self.tasks = tasks
        self.suite, self.profile = plan.suite, plan.profile
        self.model = plan.model.make(plan.registry)
        self.pretrained: dict[str, Point] = {}
        self.problems: dict[tuple[int, ...], Problem] = {}  # by the ids of their sets, which `sets` keeps
        self.sets = ProfileSets(plan.suite, plan.profile, plan.registry)

    def build(self) -> None:
        """Fill the plan."""
        direct = {task.name: self._refusal_of(task) for task in self.tasks}
        reasons = [reason for reason in direct.values() if reason]
        if len(reasons) == len(self.tasks):
            self.plan.refusal = f"{self.plan.model.name} cannot take this suite: {reasons[0]}"
            if not self.suite.family:
                raise UnsupportedError(self.plan.refusal)
        arms = arms_of(self.suite, self.profile, self.registry)
        for task in self.tasks:
            if self.plan.weights is None:
                source = self.suite.pretraining[task.pretraining].distributions
                self.plan.pairs[task.name] = self.sets.pair(task, source)
            for arm in arms:
                self._add_arm(task, arm, direct[task.name])

    def _add_arm(self, task: SuiteTask, arm: Arm, refusal: str | None) -> None:
        """Add the rows of one protocol on one task."""
        refusal = refusal or arm.refusal_of(self.model)
        if arm.pretrained:
            refusal = refusal or self._refusal_of_pretraining(task)
        for examples, seed in arm.cells(self.seeds):
            self.plan.rows.append(
                PlannedRow(
                    job=self._point(task, arm, examples, seed, refusal),
                    kind="point",
                    task=task.name,
                    shift=task.shift,
                    protocol=arm.name,
                    examples=examples,
                    seed=seed,
                    pretraining=self._pretraining_id(task, arm),
                    unsupported=refusal or "",
                )
            )

    def _point(self, task: SuiteTask, arm: Arm, examples: int, seed: int, refusal: str | None) -> Point:
        """Describe one downstream point and its trials; add them to the plan unless the model refuses."""
        sets = self.sets.downstream(task)
        common = {
            **self._common(),
            "protocol": arm.spec,
            "start": self._start(task, arm, sets["train"], refusal),
            "train": sets["train"],
            "few_shot": FewShot(examples, seed),
            "seed": seed,
            "label": f"{task.name} · {arm.name} · N={examples}" + (f" · seed {seed}" if self.seeds > 1 else ""),
        }
        trials: list[Trial] = []
        if examples:
            # Every arm has fine-tuning's budget; one that starts untrained may search other rates.
            training, tuning = self.profile.training, self.profile.fine_tuning
            budget = Budget(tuning.epochs, tuning.steps, tuning.batch_size or training.batch_size)
            rates = tuning.learning_rates if arm.pretrained else self.profile.scratch_rates
            space = self._search_space(
                f"protocol {arm.name!r}", lambda: arm.protocol.search_space(self.model, rates), arm.protocol
            )
            trials = self._trials(common, sets["validation"], budget, space)
        return self._add(common, trials, sets["test"], add=refusal is None)

    def _pretraining(self, name: str, add: bool) -> Point:
        """Describe a pre-training: tuned like any point, once per model and source, shared by all seeds."""
        if name in self.pretrained:
            return self.pretrained[name]
        pretraining = self.suite.pretraining[name]
        sets = self.sets.pretraining(pretraining)
        common = {
            **self._common(),
            "protocol": None,
            "start": Start("initialised", problem=self.sets.learned_problem(pretraining)),
            "train": sets["train"],
            "few_shot": None,
            "seed": 0,
            "label": f"pre-training {name}",
        }
        training = self.profile.training
        budget = Budget(training.epochs, training.steps, training.batch_size)
        model = f"model {self.plan.model.name!r}"
        space = self._search_space(model, lambda: self.model.search_space(training.learning_rates))
        point = self._add(common, self._trials(common, sets["validation"], budget, space), sets["test"], add=add)
        if add:
            examples = self.profile.examples.pretraining * len(pretraining.distributions)
            self.plan.rows.append(PlannedRow(point, "pretraining", name, "none", PRETRAINING, examples, 0, None))
            self.pretrained[name] = point
        return point

    def _common(self) -> dict[str, Any]:
        """What all jobs of the plan share."""
        selection = self.registry.get("metrics", SCORE).version
        return {"model": self.plan.model, "precision": self.plan.precision, "selection": selection}

    def _trials(
        self,
        common: Mapping[str, Any],
        validation: tuple[SetSpec, ...],
        budget: Budget,
        space: Sequence[Mapping[str, float]],
    ) -> list[Trial]:
        """Describe one trial for each value of a search space."""
        return [
            Trial(
                **{**common, "label": f"{common['label']} · {in_words(tried)}"},
                validation=validation,
                budget=budget,
                hyperparameters=dict(tried),
            )
            for tried in space
        ]

    def _add(
        self, common: Mapping[str, Any], trials: Sequence[Trial], test: tuple[SetSpec, ...], *, add: bool
    ) -> Point:
        """Describe the point that chooses among ``trials``; add all of them to the plan if ``add``."""
        extend = self.profile.extend if trials else 0
        point = Point(**common, trials=tuple(trial.id for trial in trials), test=test, extend=extend)
        for job in (*trials, point) if add else ():
            self.plan.add(job)
        return point

    def _start(self, task: SuiteTask, arm: Arm, pool: Sequence[SetSpec], refusal: str | None) -> Start:
        """Describe what a downstream fit starts from."""
        if not arm.pretrained:
            return Start("initialised", problem=self._problem(pool))
        if not self.model.learns_from_pretraining:
            return Start("released", problem=self._problem(pool))
        if self.plan.weights is not None:
            return Start("weights", sha256=self.plan.weights.sha256)
        return Start("pretrained", job=self._pretraining(task.pretraining, add=refusal is None).id)

    def _pretraining_id(self, task: SuiteTask, arm: Arm) -> str | None:
        if not arm.pretrained or task.pretraining not in self.pretrained:
            return None
        return self.pretrained[task.pretraining].id

    def _problem(self, sets: Sequence[SetSpec]) -> Problem:
        key = tuple(map(id, sets))
        if key not in self.problems:
            self.problems[key] = Problem.union(problem_of(spec, self.registry) for spec in sets)
        return self.problems[key]

    def _unsupported(self, problem: Problem) -> str | None:
        return refusal_reason(f"model {self.plan.model.name!r}: supports", lambda: self.model.supports(problem))

    def _search_space(
        self, who: str, search: Callable[[], Sequence[Mapping[str, float]]], protocol: TransferProtocol | None = None
    ) -> list[dict[str, int | float]]:
        """Return the search space of a model or protocol; PluginError before any training if it cannot be used."""
        space = check_space(who, call_plugin(f"{who}: search_space", lambda: list(search())))
        if _only_the_loop_reads(self.model, protocol):
            for tried in space:
                for name in tried.keys() ^ {"learning_rate"}:
                    what = f"gives {name!r}, which the training loop does not take" if name in tried else "lacks a rate"
                    raise PluginError(f"{who}: search_space {what}; it takes learning_rate")
        return space

    def _refusal_of(self, task: SuiteTask) -> str | None:
        """Return why the model cannot take a task itself, None if it can."""
        problem = self._downstream_problem(task)
        refusal = self._unsupported(problem)
        if refusal is None and task.test_grid is not None:
            return self._unsupported(self._problem(self.sets.downstream(task)["test"]))
        return refusal

    def _refusal_of_pretraining(self, task: SuiteTask) -> str | None:
        """Return why the model cannot be pre-trained for a task, None if it can."""
        if not self.model.learns_from_pretraining or self.plan.weights is not None:
            return None
        source = self.sets.learned_problem(self.suite.pretraining[task.pretraining])
        problem = self._downstream_problem(task)
        missing = source.missing(problem)
        if missing:
            raise UsageError(
                f"task {task.name!r}: its pre-training {task.pretraining!r} has no channel {', '.join(missing)}; "
                "mix in a distribution that has it"
            )
        return self._unsupported(source)

    def _downstream_problem(self, task: SuiteTask) -> Problem:
        return self._problem(self.sets.of([task.downstream], "train", self.profile.examples.pool_size))


def _only_the_loop_reads(model: OperatorModel, protocol: TransferProtocol | None) -> bool:
    """Whether a trial's hyperparameters go to the training loop and nowhere else."""
    own = [] if protocol is None else [getattr(type(protocol), name) for name in ("adapt", "wrap")]
    plain = own in ([], [TransferProtocol.adapt, TransferProtocol.wrap])
    return plain and getattr(type(model), "fit", None) is NetworkModel.fit
