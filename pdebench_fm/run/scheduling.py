"""What the runner does with a job before and after an executor has it, and executors that take many jobs at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from queue import SimpleQueue

from pdebench_fm._util.text import named
from pdebench_fm.errors import PdefmError, RunError, Terminated, WorkerDiedError
from pdebench_fm.interfaces import Schedules, Task
from pdebench_fm.plan.job import Job, Point, Trial, count
from pdebench_fm.plan.plan import Plan
from pdebench_fm.plan.search import next_trials
from pdebench_fm.run.distributed import World
from pdebench_fm.run.progress import ProgressFile
from pdebench_fm.run.worker import Outcome, Setting, Work, carry_out
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
    """Return how a job ended. If its process died, it has failed, unless its result was written before.

    Raises:
        RunError: the job did not reach another process.
    """
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
    """Wait for the next future that ends, and return its job with its outcome; errors as for `outcome_of`.

    Args:
        ended: gets each future when it ends.
        futures: those that are waited for, with their jobs; loses the one that ended.
        plan: the jobs.
        running: loses the job.
    """
    future = ended.get()
    if Terminated.arrived:
        raise Terminated
    job = futures.pop(future)
    outcome = outcome_of(future, job, plan)
    _LOG.info("%s: %s %s", outcome.status, job.label, outcome.reason)
    running.pop(job.id, None)
    return job, outcome


class Left:
    """The jobs of a plan that are neither done nor submitted.

    A job may be submitted if its parents are, but a point that may add trials only once all its trials are done.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._scored_with = load_metrics(plan.registry).scored_with()
        self._left = dict(plan.jobs)
        self._going: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._left)

    def ended(self, job: Job) -> None:
        """Note that a submitted job has ended."""
        self._going.discard(job.id)

    def take(self) -> tuple[list[tuple[Job, Outcome]], list[Job]]:
        """Return the jobs found done, with their outcomes, and those to be submitted now, parents first."""
        done: list[tuple[Job, Outcome]] = []
        ready: list[Job] = []
        changed = True
        while changed:
            changed = False
            for job in list(self._left.values()):
                if isinstance(job, Point) and job.extend:
                    tried = {trial.id for trial in self._plan.trials(job)}
                    if tried & (self._left.keys() | self._going):
                        continue
                    if more := more_trials(self._plan, job, World()):
                        self._plan.widen(job, more)
                        self._left |= {trial.id: trial for trial in more}
                        changed = True
                        continue
                elif any(parent in self._left for parent in job.parents):
                    continue
                del self._left[job.id]
                changed = True
                found = self._plan.store.finished(job, self._scored_with)
                if found is not None:
                    done.append((job, Outcome(found["status"], found, found["reason"], reused=True)))
                else:
                    self._going.add(job.id)
                    ready.append(job)
        return done, ready


def all_at_once(plan: Plan, setting: Setting, executor: Schedules, running: Running) -> Iterator[tuple[Job, Outcome]]:
    """Submit whatever may be submitted in one go; yield what was done before, then what ends."""
    left = Left(plan)
    futures: dict[Future[Outcome], Job] = {}
    ended: SimpleQueue[Future[Outcome]] = SimpleQueue()
    try:
        while True:
            done, ready = left.take()
            for job, future in zip(ready, executor.schedule([task(job, plan, setting) for job in ready]), strict=True):
                running[job.id] = future
                futures[future] = job
                future.add_done_callback(ended.put)
            yield from done
            if not futures:
                return
            job, outcome = next_outcome(ended, futures, plan, running)
            left.ended(job)
            yield job, outcome
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
