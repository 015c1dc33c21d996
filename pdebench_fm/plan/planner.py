"""From a suite and a model to jobs: what has to be computed, each job described completely by plain data.

A **trial** fits one model once, with one value of its search space. A **point** chooses among its trials by validation
score and is scored once on the test set. The id of a job is the SHA-256 of its description, which holds everything that
can change a score and nothing that cannot; suites that ask for the same job share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from pdebench_fm._util.text import show
from pdebench_fm.data.open import SetSpec, problem_of
from pdebench_fm.errors import PluginError, UnsupportedError, UsageError
from pdebench_fm.interfaces import Budget
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.arms import Arm
from pdebench_fm.plan.job import PRETRAINING, Job, Plan, Row
from pdebench_fm.plan.model import ModelSpec, Weights
from pdebench_fm.plan.sets import _arms, _described, _Sets
from pdebench_fm.problem import Problem
from pdebench_fm.registry import Registry
from pdebench_fm.registry.calling import call_plugin, refusal_reason
from pdebench_fm.suite.schema import Suite, Task

TRAINING_VERSION = "1"
"""Version of `pdebench_fm.training` and of how jobs are carried out: bump it where a score could change."""

_SEARCH_SPACE: TypeAdapter[list[dict[str, int | float]]] = TypeAdapter(
    Annotated[list[dict[str, int | FiniteFloat]], Field(min_length=1)]
)


def make_plan(
    suite: Suite,
    profile_name: str,
    model: ModelSpec,
    registry: Registry,
    *,
    seeds: int | None = None,
    precision: str = "float32",
    weights: Weights | None = None,
) -> Plan:
    """Plan every job of ``model`` on one profile of ``suite``.

    In a suite for families a model that can take none of the tasks is planned too, see `Plan.refusal`.

    Raises:
        UnsupportedError: the model can take none of the tasks; carries its reasons.
        UsageError: a task has channels that its pre-training lacks.
    """
    profile = suite.profile(profile_name)
    plan = Plan(suite, profile_name, profile, model, precision, weights)
    _Planner(plan, registry, profile.seeds if seeds is None else seeds).build()
    return plan


class _Planner:
    """Builds one plan; holds what every step of it needs."""

    def __init__(self, plan: Plan, registry: Registry, seeds: int) -> None:
        self.plan = plan
        self.registry = registry
        self.seeds = seeds
        self.suite, self.profile = plan.suite, plan.profile
        self.model = plan.model.make(registry)
        self.pretrained: dict[str, Job] = {}
        self.sets = _Sets(plan.suite, plan.profile, registry)

    def build(self) -> None:
        direct = {task.name: self._refusal_of(task) for task in self.suite.tasks}
        reasons = [reason for reason in direct.values() if reason]
        if len(reasons) == len(self.suite.tasks):
            self.plan.refusal = f"{self.plan.model.name} cannot take this suite: {reasons[0]}"
            if not self.suite.family:
                raise UnsupportedError(self.plan.refusal)
        arms = _arms(self.suite, self.profile, self.registry)
        for task in self.suite.tasks:
            if self.plan.weights is None:
                self.plan.pairs[task.name] = self.sets.pair(task, self.suite.pretraining[task.pretraining])
            for arm in arms:
                self._add_arm(task, arm, direct[task.name])

    def _add_arm(self, task: Task, arm: Arm, refusal: str | None) -> None:
        """Add the rows of one protocol on one task."""
        refusal = refusal or arm.refusal_of(self.model)
        if arm.starts_from == "pretrained":
            refusal = refusal or self._refusal_of_pretraining(task, fits=arm.sizes[-1] > 0)
        for examples, seed in arm.cells(self.seeds):
            self.plan.rows.append(
                Row(
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

    def _point(
        self,
        task: Task,
        arm: Arm,
        examples: int,
        seed: int,
        refusal: str | None,
    ) -> Job:
        """Describe one downstream point and its trials, and add them to the plan unless the model refuses."""
        sets = self.sets.downstream(task)
        start, parents = self._start(task, arm, sets["train"], refusal)
        own = {
            "protocol": {"name": arm.name, "version": arm.version},
            "start": start,
            "train": {
                "sets": _described(sets["train"]) if examples else [],
                "few_shot": {"examples": examples, "seed": seed},
            },
            "seed": seed,
        }
        budget = self._downstream_budget(arm) if examples else None
        label = f"{task.name} · {arm.name} · N={examples}" + (f" · seed {seed}" if self.seeds > 1 else "")
        return self._tuned(own, sets, budget, label, parents, add=refusal is None)

    def _tuned(
        self,
        own: Mapping[str, Any],
        sets: Mapping[str, tuple[SetSpec, ...]],
        budget: Budget | None,
        label: str,
        parents: tuple[str, ...] = (),
        *,
        add: bool,
    ) -> Job:
        """Describe a point and the trials among which it chooses, one for each value of the model's search space.

        Args:
            own: what only this point's description has.
            sets: ``train``, ``validation`` and ``test``.
            budget: of each trial; None where there is nothing to fit, and so no trials.
            label: what to show the user.
            parents: what the fits start from.
            add: whether the jobs join the plan.
        """
        common = {
            "model": self.plan.model.describe(),
            **own,
            "precision": self.plan.precision,
            "training": TRAINING_VERSION,
            "selection": {"name": SCORE, "version": self.registry.get("metrics", SCORE).version},
        }
        trials: list[Job] = []
        if budget is not None:
            tried = {
                "kind": "trial",
                **common,
                "validation": {"sets": _described(sets["validation"])},
                "budget": _describe_budget(budget),
            }
            read = {"train": sets["train"], "validation": sets["validation"]}
            for hyperparameters in self._search_space(budget):
                description = {**tried, "hyperparameters": dict(hyperparameters)}
                trials.append(Job(description, parents, read, f"{label} · {_short(hyperparameters)}"))
        ids = [trial.id for trial in trials]
        point = Job(
            {"kind": "point", **common, "trials": ids, "test": {"sets": _described(sets["test"])}},
            tuple(ids) or parents,
            {"train": sets["train"], "test": sets["test"]},
            label,
        )
        if add:
            for job in (*trials, point):
                self.plan.add(job)
        return point

    def _start(
        self, task: Task, arm: Arm, pool: Sequence[SetSpec], refusal: str | None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Describe what a downstream fit starts from, and the job it waits for."""
        problem = self._problem(pool)
        if arm.starts_from == "initialised":
            return {"from": "initialised", "problem": problem.describe()}, ()
        if not self.model.learns_from_pretraining:
            return {"from": "released", "problem": problem.describe()}, ()
        if self.plan.weights is not None:
            return {"from": "weights", "sha256": self.plan.weights.sha256}, ()
        pretraining = self._pretraining(task.pretraining, add=refusal is None)
        return {"from": "pretrained", "job": pretraining.id}, (pretraining.id,)

    def _pretraining(self, name: str, add: bool) -> Job:
        """Describe a pre-training: tuned like any point, once per model and source, shared by all seeds."""
        if name in self.pretrained:
            return self.pretrained[name]
        distributions = self.suite.pretraining[name]
        sets = self.sets.pretraining(distributions)
        own = {
            "protocol": {"name": PRETRAINING, "version": "1"},
            "start": {"from": "initialised", "problem": self._problem(sets["train"]).describe()},
            "train": {"sets": _described(sets["train"])},
            "seed": 0,
        }
        training = self.profile.training
        budget = _budget(training.epochs, training.steps, training.batch_size, training.learning_rates)
        point = self._tuned(own, sets, budget, f"pre-training {name}", add=add)
        if add:
            examples = self.profile.examples.pretraining * len(distributions)
            self.plan.rows.append(Row(point, "pretraining", name, "none", PRETRAINING, examples, 0, None))
            self.pretrained[name] = point
        return point

    def _pretraining_id(self, task: Task, arm: Arm) -> str | None:
        if arm.starts_from != "pretrained" or task.pretraining not in self.pretrained:
            return None
        return self.pretrained[task.pretraining].id

    def _problem(self, sets: Sequence[SetSpec]) -> Problem:
        return Problem.union(problem_of(spec, self.registry) for spec in sets)

    def _downstream_budget(self, arm: Arm) -> Budget:
        """Epochs of fine-tuning for every arm; one that starts untrained may search other rates."""
        training, tuning = self.profile.training, self.profile.fine_tuning
        rates = tuning.learning_rates if arm.starts_from == "pretrained" else self.profile.scratch_rates
        return _budget(tuning.epochs, tuning.steps, tuning.batch_size or training.batch_size, rates)

    def _unsupported(self, problem: Problem) -> str | None:
        return refusal_reason(f"model {self.plan.model.name!r}: supports", lambda: self.model.supports(problem))

    def _search_space(self, budget: Budget) -> list[dict[str, float]]:
        who = f"model {self.plan.model.name!r}: search_space"
        found = call_plugin(who, lambda: list(self.model.search_space(budget)))
        try:
            space = _SEARCH_SPACE.validate_python([dict(tried) for tried in found], strict=True)
        except (TypeError, ValueError, ValidationError):
            raise PluginError(
                f"{who} must return at least one mapping, of names to finite numbers, got {show(found)}"
            ) from None
        for name, value in (item for tried in space for item in tried.items()):
            if not (
                0 < len(name) <= 200
                and name.isprintable()
                and abs(value) <= (2**53 if isinstance(value, int) else math.inf)
            ):
                raise PluginError(
                    f"{who}: a record holds printable names of 1 to 200 characters and whole numbers up to 2**53, got "
                    f"{show(name)}: {show(value)}"
                )
        wrong = [tried["learning_rate"] for tried in space if not tried.get("learning_rate", 1) > 0]
        if wrong:
            raise PluginError(f"{who}: a learning_rate must be above 0, got {wrong[0]}")
        return space

    def _refusal_of(self, task: Task) -> str | None:
        """Why the model cannot take a task itself, if it cannot."""
        return self._unsupported(self._downstream_problem(task))

    def _refusal_of_pretraining(self, task: Task, fits: bool) -> str | None:
        """Why the model cannot be pre-trained for a task, if it cannot.

        Args:
            task: what it is pre-trained for.
            fits: whether it is fitted to the task, and not only asked for predictions.

        Raises:
            UsageError: the task has channels that its pre-training lacks.
        """
        if not self.model.learns_from_pretraining or self.plan.weights is not None:
            return None
        source = self._problem(
            self.sets.of(self.suite.pretraining[task.pretraining], PRETRAINING, self.profile.examples.pretraining)
        )
        problem = self._downstream_problem(task)
        missing = source.missing(problem)
        if missing:
            raise UsageError(
                f"task {task.name!r}: its pre-training {task.pretraining!r} has no channel {', '.join(missing)}; "
                "mix in a distribution that has it"
            )
        lacking = [name for name in source.output_names if name not in problem.output_names]
        if fits and lacking:
            return (
                f"the task has no output {', '.join(lacking)}, which the pre-training {task.pretraining!r} has, and a "
                "model is fitted to all outputs that it was made for"
            )
        return self._unsupported(source)

    def _downstream_problem(self, task: Task) -> Problem:
        return self._problem(self.sets.of([task.downstream], "train", self.profile.examples.pool_size))


def _budget(epochs: int | None, steps: int | None, batch_size: int, rates: Sequence[float]) -> Budget:
    return Budget(epochs, steps, batch_size, tuple(rates))


def _describe_budget(budget: Budget) -> dict[str, Any]:
    return {"epochs": budget.epochs, "steps": budget.steps, "batch_size": budget.batch_size}


def _short(hyperparameters: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in hyperparameters.items()) or "direct"
