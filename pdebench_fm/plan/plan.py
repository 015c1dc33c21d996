"""A plan: all jobs of one model on one suite, and the rows of results they fill."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pdebench_fm.data.open import Pair, SetSpec
from pdebench_fm.plan.job import Job, Point, Trial
from pdebench_fm.plan.model import ModelSpec, Weights
from pdebench_fm.plan.store import JobStore
from pdebench_fm.records.record import Cell
from pdebench_fm.registry import Registry
from pdebench_fm.suite.scale import Profile
from pdebench_fm.suite.schema import Suite


@dataclass(frozen=True)
class PlannedRow:
    """One line of the suite's results: a point in its place in this suite.

    Args:
        job: the point that fills it.
        kind: whether it is a pre-training or a downstream point.
        task: name of the task, or of the pre-training.
        examples: training examples N.
        pretraining: id of the pre-training's point, if the row starts from one.
        unsupported: why the model cannot fill it; empty if it can.
    """

    job: Point
    kind: Literal["pretraining", "point"]
    task: str
    shift: str
    protocol: str
    examples: int
    seed: int
    pretraining: str | None
    unsupported: str = ""

    @property
    def place(self) -> tuple[str, str, str, int, int]:
        """Where it is in the suite's results: kind, task, protocol, examples and seed."""
        return (self.kind, self.task, self.protocol, self.examples, self.seed)


@dataclass
class Plan:
    """All jobs of one model on one suite, parents first, and the rows they fill.

    Args:
        device: torch device of this run; no part of any identity.
        weights: the user's own weights, which replace the pre-training.
        added: ids of the trials that the run added to a point, by the point's id.
        rows: in the order of the suite.
        refusal: why the model can take none of the tasks; every row is then unsupported. Empty if it can.
        pairs: the distributions of each task; empty if the user's own weights replace the pre-training.
    """

    suite: Suite
    profile_name: str
    profile: Profile
    model: ModelSpec
    registry: Registry
    store: JobStore
    device: str = "cpu"
    precision: str = "float32"
    weights: Weights | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    added: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rows: list[PlannedRow] = field(default_factory=list)
    refusal: str = ""
    pairs: dict[str, Pair] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Add a job unless the plan has it."""
        self.jobs.setdefault(job.id, job)

    def widen(self, point: Point, trials: Sequence[Trial]) -> None:
        """Add trials to those that a point chooses among."""
        for trial in trials:
            self.add(trial)
        self.added[point.id] = (*self.added.get(point.id, ()), *(trial.id for trial in trials))

    def trials(self, point: Point) -> list[Trial]:
        """Return the trials that a point chooses among: its own, then those added."""
        return [self.trial(job_id) for job_id in (*point.trials, *self.added.get(point.id, ()))]

    @property
    def folder(self) -> Path:
        """Where records, table and figures go: ``OUTPUT/<suite>/<model>``."""
        return self.store.output / self.suite.name / self.model.name

    @property
    def cells(self) -> list[Cell]:
        """The cells that the plan's records fill, without pre-trainings."""
        return [Cell(row.task, row.protocol, row.examples, row.seed) for row in self.rows if row.kind == "point"]

    @property
    def sets(self) -> Iterator[SetSpec]:
        """The sets that its jobs use; some of them several times."""
        for job in self.jobs.values():
            yield from (*job.train, *(job.validation if isinstance(job, Trial) else ()))
            yield from job.test if isinstance(job, Point) else ()

    def only(self, places: Collection[tuple[str, str, str, int, int]], ancestors: bool = True) -> Plan:
        """Return the plan of some rows and of what they need.

        Args:
            places: (kind, task, protocol, examples, seed) of each.
            ancestors: whether to plan what their trials start from, too; needless if the trials are done.
        """
        wanted = [row for row in self.rows if not row.unsupported and row.place in places]
        jobs: dict[str, Job] = {}
        for row in wanted:
            needed = {id: self.jobs[id] for id in row.job.trials} if row.job.trials and not ancestors else None
            jobs |= {**(self.related(row.job) if needed is None else needed), row.job.id: row.job}
        rows = [row for row in self.rows if row in wanted or (row.kind == "pretraining" and row.job.id in jobs)]
        return replace(self, jobs={job_id: job for job_id, job in self.jobs.items() if job_id in jobs}, rows=rows)

    def related(self, job: Job) -> dict[str, Job]:
        """Return the jobs whose results a job reads, and those that they read, by id."""
        found: dict[str, Job] = {}
        for parent in (*job.parents, *self.added.get(job.id, ())):
            if parent in self.jobs:
                found |= {parent: self.jobs[parent], **self.related(self.jobs[parent])}
        return found

    def trial(self, job_id: str) -> Trial:
        """Return the trial of an id."""
        job = self.jobs[job_id]
        assert isinstance(job, Trial)
        return job

    def point(self, job_id: str) -> Point:
        """Return the point of an id."""
        job = self.jobs[job_id]
        assert isinstance(job, Point)
        return job
