"""What the processes of a run tell each other of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pdebench_fm.plan.job import Job
from pdebench_fm.plan.model import Weights
from pdebench_fm.plan.store import JobStore
from pdebench_fm.registry import Registry
from pdebench_fm.run.distributed import World

THIS_PROCESS = uuid4().hex
"""Tells this process from all others."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: ``ok``, ``diverged``, ``failed`` or ``unsupported``; the first two are final, others are tried again.
        result: what ``result.json`` holds; empty if the job failed.
        reason: one line if the status is not ``ok``.
        reused: whether the work had been done before.
    """

    status: str
    result: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    reused: bool = False

    @classmethod
    def before(cls, result: Mapping[str, Any]) -> Outcome:
        """Return the outcome of a job that was done before, with this result."""
        return cls(result["status"], result, result["reason"], reused=True)


@dataclass(frozen=True)
class Work:
    """A job and all it takes to do it in any process.

    Args:
        related: the jobs it reads the results of, by id, and theirs.
        trials: ids of the trials a point chooses among: its own, and those that the run added.
    """

    job: Job
    related: Mapping[str, Job]
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What all jobs of a run share.

    Args:
        key: tells this run from others in the same process.
        weights: the user's own weights in place of a pre-training.
        world: the processes that fit each trial together.
        process: which process made the run.
    """

    key: str
    registry: Registry
    store: JobStore
    device: str
    weights: Weights | None = None
    world: World = field(default_factory=World)
    process: str = field(default_factory=lambda: THIS_PROCESS)
