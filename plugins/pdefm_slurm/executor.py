"""Submits jobs to Slurm and watches them.

A whole plan is submitted at once, one array for each level of the plan, each waiting until the one before has ended.
Short jobs are bundled into tasks. Whether a job is done never depends on Slurm's accounting: tasks leave files, and a
task that is neither in the queue nor has left any has died.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from pdebench_fm.errors import RunError, WorkerDiedError
from pdebench_fm.interfaces import Task
from pdefm_slurm.bundling import bundles, levels
from pdefm_slurm.queue import (
    Place,
    cancel,
    log_of,
    outcome_file,
    places_of,
    queued,
    submission,
    submitted,
    write_submission,
)
from pdefm_slurm.task import Bundle

_LOG = logging.getLogger("pdebench_fm.run")
_LOOK = 0.5  # seconds between two looks for files that tasks left
_SOON = 2.0  # seconds until a second look at a task that is not in the queue
_SETTLED = 60.0  # seconds after which a file of a task not in the queue is not one of a new task
_LARGEST = 1000  # tasks of an array; Slurm's own default limit


class SlurmExecutor(Executor):
    """Jobs in Slurm's queue. Those that an earlier run has submitted are watched, not submitted again.

    Args:
        folder: for submissions, logs and outcomes.
        cluster: a `submitit.SlurmExecutor`.
        options: of ``sbatch``.
        tasks: how many tasks a level of the plan becomes at most.
        bundle: makes what a task does from its calls.
        poll: seconds between two calls of ``squeue``.
    """

    def __init__(
        self,
        folder: Path,
        cluster: Any,
        options: Mapping[str, Any],
        tasks: int,
        bundle: Callable[..., Bundle],
        poll: float,
    ) -> None:
        self._folder = folder
        self._cluster = cluster
        self._options = options
        self._tasks = tasks
        self._bundle = bundle
        self._poll = poll
        self._watched: dict[str, dict[int, Future[Any]]] = {}  # by task, by number in its bundle
        self._own: set[str] = set()  # tasks that this executor has submitted
        self._ended: set[str] = set()
        self._changing = threading.RLock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submit one call as a task of its own."""
        return self.schedule([Task(uuid4().hex, partial(fn, *args, **kwargs))])[0]

    def schedule(self, tasks: Sequence[Task]) -> list[Future[Any]]:
        """Submit many calls, those that others wait for first.

        Raises:
            RunError: Slurm does not take them, or they cannot be pickled.
        """
        if not tasks:
            return []
        with self._changing:
            places = self._still_queued(tasks)
            before = set(self._own)
            try:
                for level in levels([task for task in tasks if task.key not in places]):
                    array = bundles(level, self._tasks)
                    for start in range(0, len(array), _LARGEST):
                        places |= self._submitted(array[start : start + _LARGEST], places)
            except BaseException:
                self._withdraw(self._own - before)
                raise
            futures = [self._watch(places[task.key]) for task in tasks]
        if self._thread is None:
            self._thread = threading.Thread(target=self._look_after, daemon=True)
            self._thread.start()
        return futures

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the executor: wait for what it watches, or take its own tasks out of the queue, or leave them there.

        Tasks that another run has submitted stay: their submission must not be forgotten while they are in the queue.
        """
        with self._changing:
            futures = [future for watched in self._watched.values() for future in watched.values()]
            if cancel_futures:
                self._withdraw(self._watched.keys() & self._own)
                self._watched.clear()
                for future in futures:
                    if not future.cancel():  # it runs
                        future.set_exception(CancelledError())
        if wait and not cancel_futures:
            wait_for(futures)
        self._over.set()
        if self._thread is not None and wait:
            self._thread.join()
            self._sweep(())

    def _withdraw(self, tasks: Iterable[str]) -> None:
        """Take tasks out of the queue. Those that run end at once, since their submission is forgotten."""
        for task in tasks:
            submission(self._folder, task).unlink(missing_ok=True)
        cancel(list(tasks))

    def _still_queued(self, tasks: Sequence[Task]) -> dict[str, Place]:
        """Return those that an earlier run submitted and that still wait or run; clear away what ended tasks left."""
        wanted, live = {task.key for task in tasks}, queued()
        if live is None:
            raise RunError("squeue does not answer, so jobs might be submitted twice; try again later")
        self._sweep(live)
        going = {task for task, (state, _) in live.items() if state != "COMPLETING"}
        found = {key: place for key, place in submitted(self._folder).items() if key in wanted and place.task in going}
        return {
            key: place
            for key, place in found.items()
            if not outcome_file(self._folder, place.task, place.number).exists()  # it has failed
        }

    def _submitted(self, array: Sequence[Sequence[Task]], places: Mapping[str, Place]) -> dict[str, Place]:
        """Submit one array, which waits until those that its jobs need have ended, well or not."""
        import cloudpickle

        parents = {places[key].array for bundle in array for task in bundle for key in task.after if key in places}
        waits = {"dependency": "afterany:" + ":".join(sorted(parents))} if parents else {}
        self._cluster.update_parameters(additional_parameters={**self._options, **waits})
        try:
            made = [self._bundle(cloudpickle.dumps([task.call for task in one]), len(one)) for one in array]
            jobs = self._cluster.submit_array([bundle.run for bundle in made])
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise RunError(
                f"the jobs cannot be handed to other processes: {_named(error)}; try --executor debug"
            ) from error
        except Exception as error:
            raise RunError(f"Slurm does not take the jobs: {_named(error)}") from error
        ids = [job.job_id for job in jobs]
        self._own.update(ids)
        keys = [[task.key for task in bundle] for bundle in array]
        write_submission(self._folder, ids, keys)
        _LOG.info("submitted %d tasks as Slurm job %s", len(ids), ids[0].partition("_")[0])
        return dict(places_of(self._folder, ids, keys))

    def _sweep(self, live: Container[str]) -> None:
        """Remove what ended tasks of this user have left and no run needs: pickles of submitit, and outcomes."""
        for pattern in ("*_submitted.pkl", "*_result.pkl", "*_submission.sh", "outcomes/*"):
            for path in self._folder.glob(pattern):
                task = re.match(r"\d+(_\d+)?", path.name)
                if task is None or task[0] in live or task[0] in self._watched:
                    continue
                with suppress(OSError):  # removed meanwhile
                    about = path.stat()
                    old = task[0] in self._ended or time.time() - about.st_mtime > _SETTLED
                    if old and about.st_uid == os.getuid():
                        path.unlink()

    def _watch(self, place: Place) -> Future[Any]:
        return self._watched.setdefault(place.task, {}).setdefault(place.number, Future())

    def _look_after(self) -> None:
        """Give futures their outcomes, until the executor ends."""
        asked, missing = -self._poll, set[str]()
        while not self._over.wait(_LOOK):
            with self._changing:
                self._collect()
            if time.monotonic() - asked < (min(self._poll, _SOON) if missing else self._poll) or not self._watched:
                continue
            states = queued()  # may take long: not under the lock
            asked = time.monotonic()
            if states is not None:
                with self._changing:
                    missing = self._compare(states, missing)

    def _compare(self, states: Mapping[str, tuple[str, str]], missing: set[str]) -> set[str]:
        """Note what runs. Return the tasks that are not in the queue; those that were missing before have died."""
        gone = self._watched.keys() - states.keys()
        self._collect()
        for task in missing & gone & self._watched.keys():
            log = log_of(self._folder, task)
            error = WorkerDiedError(f"its Slurm task {task} ended without a result: {_last_words(log)}")
            for number in list(self._watched[task]):
                self._resolve(task, number, None, error)
        for task in self._watched.keys() & states.keys():
            if states[task][0] == "RUNNING":
                for future in self._watched[task].values():
                    if not future.running():
                        future.set_running_or_notify_cancel()
        self._sweep(states)
        return gone & self._watched.keys()

    def _collect(self) -> None:
        """Read the outcomes that tasks have left."""
        with suppress(FileNotFoundError):
            for path in sorted(self._new_outcomes(), key=lambda path: path.stat().st_mtime_ns):
                task, _, number = path.name.partition("-")
                try:
                    value, error = pickle.loads(path.read_bytes())
                except Exception as raised:
                    value, error = None, RuntimeError(f"{path}: cannot be read: {_named(raised)}")
                self._resolve(task, int(number), value, error)

    def _new_outcomes(self) -> Iterator[Path]:
        for entry in os.scandir(self._folder / "outcomes"):
            task, _, number = entry.name.partition("-")
            if number.isdigit() and int(number) in self._watched.get(task, ()):
                yield Path(entry.path)

    def _resolve(self, task: str, number: int, value: Any, error: BaseException | None) -> None:
        """Give a future its outcome."""
        future = self._watched[task].pop(number)
        if not self._watched[task]:
            del self._watched[task]
            self._ended.add(task)
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(WorkerDiedError(str(error)) if isinstance(error, RunError) else error)


def _last_words(log: Path) -> str:
    """Return why a task has ended, as far as its log says, and where the log is."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"it left no log: it was cancelled before it began, or its node does not see {log.parent}"
    slurm_says = [line.partition("error: ")[2].strip("* ") for line in lines if "error: *** " in line]
    return f"{slurm_says[-1] if slurm_says else 'killed?'}; log: {log}"


def _named(error: BaseException) -> str:
    """Return an error as one line, with its type."""
    return " ".join(f"{type(error).__name__}: {error}".split())
