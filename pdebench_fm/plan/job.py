"""Jobs: what a run computes, each described completely by plain data.

A `Trial` fits one model once, with one value of its search space. A `Point` chooses among its trials by validation
error and is scored once on the test set. The id of a job is the SHA-256 of its description. The description holds
everything that can change a score and nothing that cannot, so suites that ask for the same job share it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final, Literal

from pdebench_fm._util.identity import job_id
from pdebench_fm.data.open import SetSpec
from pdebench_fm.interfaces import Budget
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.plan.model import ModelSpec
from pdebench_fm.plan.protocol import ProtocolSpec
from pdebench_fm.problem import Problem

PRETRAINING: Final = "pretraining"
TRAINING_VERSION = "1"
"""Version of `pdebench_fm.training` and of how jobs are carried out: bump it if a score could change."""


@dataclass(frozen=True)
class Start:
    """What a fit starts from.

    Args:
        source: ``initialised`` (fresh weights), ``released`` (a model that arrives trained), ``pretrained`` (another
            job), or ``weights`` (a file of the user's).
        problem: what an initialised or released model is built for.
        job: id of the pre-training.
        sha256: of the user's weights.
    """

    source: Literal["initialised", "released", "pretrained", "weights"]
    problem: Problem | None = None
    job: str | None = None
    sha256: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return the start as plain data."""
        problem = None if self.problem is None else self.problem.describe()
        known = {"problem": problem, "job": self.job, "sha256": self.sha256}
        return {"from": self.source, **{name: value for name, value in known.items() if value is not None}}


@dataclass(frozen=True)
class FewShot:
    """Which examples of the downstream pool are used: how many, chosen by which seed."""

    examples: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """One unit of work: what trials and points have in common.

    Args:
        protocol: how; None for a pre-training.
        start: what fitting starts from.
        train: sets to fit to; a downstream job draws its few-shot examples from the one set here.
        few_shot: which of them; None for a pre-training, which uses all.
        seed: fixes initialisation and data order.
        precision: arithmetic of training.
        selection: version of the metric that chooses among trials.
        label: what to show the user; no part of the identity.
    """

    kind: ClassVar[Literal["trial", "point"]]

    model: ModelSpec
    protocol: ProtocolSpec | None
    start: Start
    train: tuple[SetSpec, ...]
    few_shot: FewShot | None
    seed: int
    precision: str
    selection: str
    label: str = ""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return everything that can change the result, as plain data."""

    @property
    @abstractmethod
    def parents(self) -> tuple[str, ...]:
        """Ids of the jobs whose results this one needs."""

    @cached_property
    def id(self) -> str:
        """SHA-256 of the canonical description."""
        return job_id(self.describe())

    @property
    def arm(self) -> str:
        """Name of the protocol, or ``pretraining``."""
        return PRETRAINING if self.protocol is None else self.protocol.label

    @property
    def examples(self) -> int:
        """Number of training examples."""
        return count(self.train) if self.few_shot is None else self.few_shot.examples

    def _common(self) -> dict[str, Any]:
        protocol = {"name": PRETRAINING, "version": "1"} if self.protocol is None else self.protocol.describe()
        train: dict[str, Any] = {"sets": described(self.train) if self.examples else []}
        if self.few_shot is not None:
            train["few_shot"] = {"examples": self.few_shot.examples, "seed": self.few_shot.seed}
        return {
            "kind": self.kind,
            "model": self.model.describe(),
            "protocol": protocol,
            "start": self.start.describe(),
            "train": train,
            "seed": self.seed,
            "precision": self.precision,
            "training": TRAINING_VERSION,
            "selection": {"name": SCORE, "version": self.selection},
        }


@dataclass(frozen=True, kw_only=True)
class Trial(Job):
    """One fit of one model with one value of its search space.

    Args:
        validation: sets that choose the epoch, and by which the point chooses the trial.
        budget: how much fitting the trial may do.
        hyperparameters: the value of the search space.
    """

    kind = "trial"

    validation: tuple[SetSpec, ...]
    budget: Budget
    hyperparameters: Mapping[str, float]

    def describe(self) -> dict[str, Any]:
        """Return everything that can change the fit, as plain data."""
        budget = {"epochs": self.budget.epochs, "steps": self.budget.steps, "batch_size": self.budget.batch_size}
        return {
            **self._common(),
            "validation": {"sets": described(self.validation)},
            "budget": budget,
            "hyperparameters": dict(self.hyperparameters),
        }

    @property
    def parents(self) -> tuple[str, ...]:
        """The pre-training, if the fit starts from one."""
        return () if self.start.job is None else (self.start.job,)

    @property
    def passes(self) -> int:
        """Examples that pass forward and backward through the model: N × epochs."""
        if self.budget.epochs is not None:
            return self.examples * self.budget.epochs
        assert self.budget.steps is not None
        return self.budget.steps * min(self.budget.batch_size, self.examples)


@dataclass(frozen=True, kw_only=True)
class Point(Job):
    """The chosen trial, scored once on the test set.

    Args:
        trials: ids of the trials to choose from; empty if there is nothing to fit (zero-shot, scratch at N = 0).
        test: sets to score on.
        extend: how many trials may be added while the best rate is at an end of those tried.
    """

    kind = "point"

    trials: tuple[str, ...]
    test: tuple[SetSpec, ...]
    extend: int = 0

    def describe(self) -> dict[str, Any]:
        """Return everything that can change the score, as plain data."""
        extend = {"extend": self.extend} if self.extend else {}
        return {**self._common(), "trials": list(self.trials), **extend, "test": {"sets": described(self.test)}}

    @property
    def parents(self) -> tuple[str, ...]:
        """The trials; without any, the pre-training."""
        if self.trials or self.start.job is None:
            return self.trials
        return (self.start.job,)


def count(sets: Sequence[SetSpec]) -> int:
    """Return the number of examples in some sets."""
    return sum(spec.count for spec in sets)


def described(sets: Sequence[SetSpec]) -> list[dict[str, Any]]:
    """Return the descriptions of some sets."""
    return [dict(spec.description) for spec in sets]
