"""Executors on this machine: one job after the other in this process, or several side by side in processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm._util.text import named, one_line
from pdebench_fm.errors import PLUGIN_ERRORS, RunError
from pdebench_fm.interfaces import Progress
from pdebench_fm.interfaces.executor import Executor, JobT, OutcomeT, Report

_PATIENCE = 0.5  # seconds
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FRESH: BaseContext = multiprocessing.get_context("spawn")
LOADED_FOR = "PDEFM_LOADED_FOR"
"""Environment variable that tells the process that workers are copies of who has started it."""
_LOADED = "pdebench_fm.run.loaded"
_loading = False


def cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(workers: int) -> int:
    """Threads that each of several processes may use."""
    return max(1, cpu_count() // workers)


class InProcessExecutor(Executor[JobT, OutcomeT]):
    """Jobs in order, here; tracebacks and debuggers work as in any program."""

    def run(
        self,
        jobs: Sequence[JobT],
        perform: Callable[[JobT, Report], OutcomeT],
        hear: Callable[[JobT, Progress | None], None],
    ) -> Iterator[tuple[JobT, OutcomeT]]:
        """Perform each job in turn."""
        for job in jobs:
            yield job, perform(job, partial(hear, job))


@dataclass
class _Hand:
    """One worker process and the job it is busy with."""

    process: BaseProcess
    pipe: Connection
    job: Any = None


class ProcessExecutor(Executor[JobT, OutcomeT]):
    """Several worker processes, each doing one job at a time.

    Small networks gain little from threads, so on a CPU two processes with one thread each do far more than one process
    with two. A worker ends by itself when this process dies.

    Args:
        workers: number of processes.
        threads: threads of each.
        gpus: names of GPUs as ``CUDA_VISIBLE_DEVICES`` has them, dealt out in turn: a worker sees its own alone. Where
            there are none, workers see what this process does.
        copies: whether workers of one thread may be copies of a process that has loaded what they need, where
            `begin_loading` has begun one; otherwise each is a fresh interpreter. For work on a CPU: what a GPU's driver
            holds cannot be copied.
    """

    def __init__(self, workers: int, threads: int = 1, gpus: Sequence[str] = (), *, copies: bool = False) -> None:
        self._workers = workers
        self._threads = threads
        self._gpus = gpus
        self._copies = copies

    def run(
        self,
        jobs: Sequence[JobT],
        perform: Callable[[JobT, Report], OutcomeT],
        hear: Callable[[JobT, Progress | None], None],
    ) -> Iterator[tuple[JobT, OutcomeT]]:
        """Perform jobs side by side: whoever is free takes the first job whose parents are done."""
        waiting = list(jobs)
        unfinished = {job.id for job in jobs}
        hands: list[_Hand] = []
        try:
            context = (_loaded_context() if self._copies and self._threads == 1 else None) or _FRESH
            for number in range(min(self._workers, len(waiting))):
                with interrupts_held_back():  # a worker that nobody knows of could not be ended
                    hands.append(self._hire(context, perform, number))
            while unfinished:
                for hand in hands:
                    if hand.job is None:
                        hand.job = next((job for job in waiting if unfinished.isdisjoint(job.parents)), None)
                        if hand.job is not None:
                            waiting.remove(hand.job)
                            try:
                                hand.pipe.send(hand.job)
                            except OSError:
                                raise self._lost(hand) from None
                for pipe in wait([hand.pipe for hand in hands if hand.job is not None]):
                    hand = next(hand for hand in hands if hand.pipe is pipe)
                    try:
                        kind, content = hand.pipe.recv()
                    except (EOFError, OSError):
                        raise self._lost(hand) from None
                    if kind == "report":
                        hear(hand.job, content)
                    elif kind == "error":
                        raise content
                    else:
                        job, hand.job = hand.job, None
                        unfinished.remove(job.id)
                        yield job, content
        finally:
            for hand in hands:
                hand.process.kill()  # whatever it writes is written whole or not at all
            for hand in hands:
                hand.process.join()
                hand.pipe.close()

    def _lost(self, hand: _Hand) -> RunError:
        """What to say of a worker that is gone."""
        hand.process.join(_PATIENCE)
        time.sleep(_PATIENCE)  # a signal to the whole group may still be on its way to this process
        return RunError(f"a worker process ended with exit code {hand.process.exitcode} (out of memory?)")

    def _hire(self, context: BaseContext, perform: Callable[[JobT, Report], OutcomeT], number: int) -> _Hand:
        """Start one worker; it is never a copy of this process: of one that used torch's threads it might hang."""
        here, there = context.Pipe()
        own = {"CUDA_VISIBLE_DEVICES": self._gpus[number % len(self._gpus)]} if self._gpus else {}
        with thread_variables(self._threads), _variables(own):
            # Pickled here: a copy must have this environment before it imports what ``perform`` is made of.
            arguments = (there, pickle.dumps(perform), self._threads, dict(os.environ))
            process = context.Process(target=_work, args=arguments, daemon=True)  # type: ignore[attr-defined]
            try:
                process.start()
            except (EOFError, OSError) as error:
                raise RunError(f"a worker process could not be started: {one_line(error)} (out of memory?)") from None
        there.close()
        return _Hand(process, here)


def begin_loading() -> None:
    """Begin to load what workers need, in a process that they become copies of, and return at once.

    Each worker would otherwise spend its first seconds on importing torch. That process has one thread and computes
    nothing, so that its copies are safe; it ends with this one. It is Python's fork server, of which a process has only
    one: this is for a program that is ours from its start to its end, such as ``pdefm run``. Elsewhere than on Linux,
    or where no such process can be, nothing happens.
    """
    global _loading
    if not sys.platform.startswith("linux") or sys.flags.ignore_environment:
        return
    from multiprocessing import forkserver

    multiprocessing.get_context("forkserver").set_forkserver_preload([_LOADED])
    with suppress(OSError), interrupts_held_back(), _server_variables():  # OSError: no place for its socket
        forkserver.ensure_running()
        _loading = True


def is_loading() -> bool:
    """Whether `begin_loading` has begun."""
    return _loading


def _loaded_context() -> BaseContext | None:
    """Wait until workers can be started as copies, and return what starts them so; None where nothing does."""
    if not _loading:
        return None
    context = multiprocessing.get_context("forkserver")
    first = context.Process(target=_end_unless_loaded, args=(__file__,), daemon=True)
    with suppress(EOFError, OSError), _server_variables():  # it may have ended, and is begun again
        first.start()  # here, where Ctrl-C is not held back for seconds
        first.join()
        return context if first.exitcode == 0 else None
    return None


def _server_variables() -> AbstractContextManager[None]:
    """What the process that workers are copies of has in its environment."""
    # Before 3.12.8, and in 3.13.0, Python does not hand on where modules are found, and looks in the current folder.
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    ones = dict.fromkeys(_THREAD_VARIABLES, "1")
    return _variables({**ones, LOADED_FOR: str(os.getpid()), "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"})


def _end_unless_loaded(file: str) -> None:
    """End with an error unless this is a copy of a process that has loaded our modules, from where its parent did."""
    ready = getattr(sys.modules.get(_LOADED), "ready", False)
    if not ready or __file__ != file or any(os.environ.get(name) != "1" for name in _THREAD_VARIABLES):
        os._exit(1)


def thread_variables(threads: int) -> AbstractContextManager[None]:
    """A process started inside has ``threads`` threads: libraries read the environment when they are loaded."""
    return _variables(dict.fromkeys(_THREAD_VARIABLES, str(threads)))


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """A process started inside has these in its environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Ctrl-C waits until the block has ended; a process started inside never sees it, not even while it starts."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # the first process starts it otherwise, and starting it lets signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, pickled: bytes, threads: int, environment: Mapping[str, str]) -> None:
    """The life of a worker: receive a job, do it, send reports and the outcome."""
    end_with_parent()
    for name in os.environ.keys() - environment.keys():  # a copy has that of an earlier hour
        del os.environ[name]
    os.environ.update(environment)
    keep_freed_memory()
    import torch

    torch.set_num_threads(threads)
    # Not for ours, which seed what they draw; but where somebody's model does not, no two copies draw the same numbers.
    np.random.seed()
    torch.default_generator.seed()
    perform: Callable[[Any, Report], Any] = pickle.loads(pickled)

    def send(kind: str, content: Any) -> None:
        try:
            pipe.send((kind, content))
        except OSError:  # the parent has gone: nobody hears a complaint, and the job goes on in the next run
            os._exit(1)

    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            outcome = perform(job, partial(send, "report"))
        except PLUGIN_ERRORS as error:
            send("error", RunError(named(error)))
        else:
            send("outcome", outcome)


def end_with_parent() -> None:
    """Let this process end when its parent does, and only then: Ctrl-C reaches both; the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent, starter = multiprocessing.parent_process(), os.getppid()
    assert parent is not None  # only called in processes that multiprocessing has started
    while parent.is_alive() and os.getppid() == starter:
        parent.join(_PATIENCE)
    os._exit(1)
