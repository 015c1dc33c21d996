"""What the runner does with a job before and after an executor has it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any

from pdebench_fm._util.text import named
from pdebench_fm.errors import PdefmError, RunError, Terminated, WorkerDiedError
from pdebench_fm.interfaces import Task
from pdebench_fm.plan.job import Job, Point, Trial, count
from pdebench_fm.plan.order import Order
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.search import next_trials
from pdebench_fm.run.distributed import World
from pdebench_fm.run.progress import ProgressFile
from pdebench_fm.run.status import write_plan
from pdebench_fm.run.work import Outcome, Setting, Work
from pdebench_fm.run.worker import carry_out
from pdebench_fm.scoring.point import load_metrics

_LOG = logging.getLogger("pdebench_fm.run")

Running = dict[str, Future[Outcome] | None]
"""Jobs that were submitted, by id; None while they are."""


def pending(plan: Plan) -> set[str]:
    """Return the ids of the jobs that still have to be done."""
    wanted = load_metrics(plan.registry).scored_with()
    return {job.id for job in plan.jobs.values() if plan.store.finished(job, wanted) is None}


def work(job: Job, plan: Plan) -> Work:
    """Return a job with all it takes to do it."""
    tried = tuple(trial.id for trial in plan.trials(job)) if isinstance(job, Point) else ()
    return Work(job, plan.related(job), tried)


def task(job: Job, plan: Plan, setting: Setting) -> Task:
    """Return a job as a task for an executor that takes many at once."""
    call = partial(carry_out, setting, work(job, plan))
    cost = job.passes if isinstance(job, Trial) else count(job.test) if isinstance(job, Point) else 0
    return Task(job.id, call, (*job.parents, *plan.added.get(job.id, ())), max(cost, 1))


def more_trials(plan: Plan, point: Point, world: World) -> list[Trial]:
    """Return the trials that a point tries before it chooses; all ranks do as rank 0 says, which has the results."""
    if not point.extend:
        return []
    trials = plan.trials(point)
    results = {trial.id: result for trial in trials if (result := plan.store.result(trial.id)) is not None}
    return world.from_main(next_trials(point, trials, results) if world.is_main else [])


def outcome_of(future: Future[Outcome], job: Job, plan: Plan) -> Outcome:
    """Return how a job ended. If its process died, it has failed, unless its result was written before."""
    try:
        return future.result()
    except WorkerDiedError as error:
        found = plan.store.result(job.id)
        if found is not None:
            return Outcome(found["status"], found, found["reason"])
        ProgressFile(plan.store.folder(job.id)).end()
        plan.store.log_failure(job, error)
        return Outcome("failed", reason=str(error))
    except (PdefmError, BrokenExecutor):
        raise
    except Exception as error:  # a job's own errors are part of its outcome
        hint = "models and other plugins must be importable, or take --executor debug"
        raise RunError(f"{job.label}: cannot be handed to another process: {named(error)}; {hint}") from error


def next_outcome(
    ended: SimpleQueue[Future[Outcome]], futures: dict[Future[Outcome], Job], plan: Plan, running: Running
) -> tuple[Job, Outcome]:
    """Wait for the next future that ends, and return its job with its outcome."""
    future = ended.get()
    if Terminated.arrived:
        raise Terminated
    job = futures.pop(future)
    outcome = outcome_of(future, job, plan)
    _LOG.info("%s: %s %s", outcome.status, job.label, outcome.reason)
    running.pop(job.id, None)
    return job, outcome


def runnable(order: Order, plan: Plan, world: World) -> Iterator[Job]:
    """Yield the jobs that may be submitted. A point that adds trials comes after them."""
    while (job := order.pop()) is not None:
        if isinstance(job, Point) and (more := more_trials(plan, job, world)):
            plan.widen(job, more)
            order.put_back(job, more)
            if world.is_main and any(plan.store.result(trial.id) is None for trial in more):
                with suppress(OSError):  # a full disk; only `pdefm status` needs it
                    write_plan(plan)
        else:
            yield job


def found_done(job: Job, plan: Plan, scored_with: Mapping[str, Any]) -> Outcome | None:
    """Return the outcome of a job that was done before; None if it has to be done (again)."""
    found = plan.store.finished(job, scored_with)
    return None if found is None else Outcome.before(found)


def take(order: Order, plan: Plan, scored_with: Mapping[str, Any]) -> tuple[list[tuple[Job, Outcome]], list[Job]]:
    """Return the jobs found done, with their outcomes, and those that may be submitted in one go, parents first."""
    done: list[tuple[Job, Outcome]] = []
    ready: list[Job] = []
    for job in runnable(order, plan, World()):
        outcome = found_done(job, plan, scored_with)
        if outcome is not None:
            done.append((job, outcome))
            order.ended(job)
        else:
            ready.append(job)
            order.submitted(job)
    return done, ready
