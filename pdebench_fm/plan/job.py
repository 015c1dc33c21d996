"""What a plan consists of: jobs, each described by plain data, and the rows of results they fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from pdebench_fm._util.identity import job_id
from pdebench_fm.data.open import Pair, SetSpec
from pdebench_fm.interfaces import Budget
from pdebench_fm.plan.model import ModelSpec, Weights
from pdebench_fm.suite.schema import Profile, Suite

PRETRAINING: Final = "pretraining"


@dataclass(frozen=True)
class Job:
    """One unit of work.

    Args:
        description: plain data; its SHA-256 is the id.
        parents: ids of the jobs it needs.
        sets: for each described set that is read from a file, the set with its path.
        label: what to show the user; not part of the identity.
    """

    description: Mapping[str, Any]
    parents: tuple[str, ...] = ()
    sets: Mapping[str, tuple[SetSpec, ...]] = field(default_factory=dict)
    label: str = ""

    @cached_property
    def id(self) -> str:
        """SHA-256 of the canonical description."""
        return job_id(self.description)

    @property
    def kind(self) -> Literal["trial", "point"]:
        """Whether it fits a model or scores one."""
        kind: Literal["trial", "point"] = self.description["kind"]
        return kind


@dataclass(frozen=True)
class Row:
    """One line of the suite's results: a point in the place where this suite asks for it."""

    job: Job
    kind: Literal["pretraining", "point"]
    task: str
    shift: str
    protocol: str
    examples: int
    seed: int
    pretraining: str | None
    unsupported: str = ""


@dataclass
class Plan:
    """All jobs of one model on one suite, parents first, and the rows they fill.

    Args:
        refusal: why the model can take none of the tasks, where that is so: every row is then unsupported.
        pairs: of each task, by name; empty where the user's own weights replace the pre-training.
    """

    suite: Suite
    profile_name: str
    profile: Profile
    model: ModelSpec
    precision: str
    weights: Weights | None
    jobs: dict[str, Job] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    refusal: str = ""
    pairs: dict[str, Pair] = field(default_factory=dict)

    def add(self, job: Job) -> Job:
        """Add a job once; return the one that is kept."""
        return self.jobs.setdefault(job.id, job)


def trained_examples(job: Job) -> int:
    """Examples that pass forward and backward through the model in one trial: N × epochs; 0 for a point."""
    if job.kind == "point":
        return 0
    examples = training_size(job.description)
    budget = job.description["budget"]
    if budget["epochs"] is not None:
        return examples * int(budget["epochs"])
    return int(budget["steps"]) * min(int(budget["batch_size"]), examples)


def training_size(description: Mapping[str, Any]) -> int:
    """Number of training examples of a described job."""
    train = description["train"]
    if "few_shot" in train:
        return int(train["few_shot"]["examples"])
    return sum(int(part["count"]) for part in train["sets"])


def budget_of(description: Mapping[str, Any]) -> Budget:
    """Read back the budget of a described trial; its one learning rate is a hyperparameter of the trial."""
    return Budget(**description["budget"], learning_rates=())


def validation_size(description: Mapping[str, Any]) -> int:
    """Number of validation examples that a described trial is judged by."""
    return sum(int(part["count"]) for part in description["validation"]["sets"])
