"""The built-in executors: jobs in this process, or in a pool of processes on this machine."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from typing import Any

from pdebench_fm._util.environment import environment_of_workers
from pdebench_fm.errors import RunError, WorkerDiedError
from pdebench_fm.hookspecs import ExecutorEntry, hookimpl

_MOST_WORKERS = 8


@hookimpl
def pdefm_executors() -> list[ExecutorEntry]:
    """Register the built-in executors."""
    here = "pdebench_fm.run.executors"
    return [
        ExecutorEntry("local", "1", f"{here}:local", "a pool of processes on this machine"),
        ExecutorEntry("debug", "1", f"{here}:DebugExecutor", "in this process, one job after the other"),
    ]


def local(workers: int = 1, device: str = "cpu") -> Executor:
    """Return a pool of processes; with one worker, this process does the jobs itself."""
    if workers == 1:
        return DebugExecutor(device)
    return LocalPool(workers, threads_of_a_job(), gpus_of(device))


class DebugExecutor(Executor):
    """Runs each job at once, in this process: tracebacks and debuggers work as in any program.

    Args:
        device: torch device. On a CPU, torch has the threads of `threads_of_a_job` during the job.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function and return its finished future."""
        future: Future[Any] = Future()
        with _torch_threads(threads_of_a_job()) if self._device == "cpu" else nullcontext():
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                future.set_exception(error)
        return future


class LocalPool(Executor):
    """A pool of processes that end with this one, even if it is killed.

    A process that dies fails the one job it was doing, and another takes its place.

    Args:
        gpus: GPUs as ``CUDA_VISIBLE_DEVICES`` names them, dealt out in turn: a worker sees only its own. Without any,
            workers see what this process does.
    """

    def __init__(self, workers: int, threads: int = 1, gpus: Sequence[str] = ()) -> None:
        self._environment = environment_of_workers(threads)
        self._context = multiprocessing.get_context("spawn")
        # Workers wait for the end of this pipe: it comes when the pool is broken off, or when this process dies.
        self._ending, self._alive = self._context.Pipe(duplex=False)
        self._gpus = itertools.cycle(gpus or [""])
        # A thread for each process: Python's own pool gives up all jobs when one of its processes dies.
        self._threads = ThreadPoolExecutor(workers, initializer=self._begin)
        self._own = threading.local()
        self._starting = threading.Lock()
        self._pools: list[ProcessPoolExecutor] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call; starts a worker if all are busy and there may be more.

        The future raises `WorkerDiedError` if the process dies.
        """
        return self._threads.submit(self._call, fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the pool; without ``wait``, running jobs end at once and continue in the next run."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)
        if not wait:
            self._alive.close()  # processes end, and their pools notice
        # Python joins their threads at exit in any case, and prints a traceback if one of them just ends by then.
        for pool in self._pools:
            pool.shutdown()

    def _begin(self) -> None:
        self._own.pool = None
        with self._starting:
            self._own.gpu = next(self._gpus)

    def _call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function in the process of this thread."""
        if self._own.pool is None:
            self._own.pool = self._started(self._own.gpu)
        try:
            return self._own.pool.submit(fn, *args, **kwargs).result()
        except BrokenExecutor as error:
            self._own.pool = None
            raise WorkerDiedError("its process died (out of memory?)") from error

    def _started(self, gpu: str) -> ProcessPoolExecutor:
        """Start one process, and wait until it can work."""
        with self._starting, _environment(self._environment), _no_interrupts():
            pool = ProcessPoolExecutor(
                1, mp_context=self._context, initializer=_begin_worker, initargs=(self._ending, gpu)
            )
            self._pools.append(pool)
            ready = pool.submit(os.getpid)
        try:
            ready.result()
        except BrokenExecutor as error:
            raise RunError(
                "worker processes cannot be started; a script must call evaluate under \"if __name__ == '__main__'\""
            ) from error
        return pool


def workers_by_default(device: str) -> int:
    """Return how many jobs run side by side: one per core on a CPU, one on GPUs."""
    return min(cpu_count(), _MOST_WORKERS) if device == "cpu" else 1


def cpu_count() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_a_job() -> int:
    """Return OMP_NUM_THREADS, or else 1.

    Small networks gain little from threads, and on a busy machine threads mostly wait for each other: a run of 60 s
    on one thread had not ended after 200 s on two, with five times the work.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) > 0 else 1


def gpus_of(device: str) -> list[str]:
    """Return the GPUs that ``cuda`` stands for, as ``CUDA_VISIBLE_DEVICES`` names them; none for any other device."""
    if device != "cuda":
        return []
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in visible.split(",")][:count] if visible else [str(i) for i in range(count)]


def _begin_worker(ending: Connection, gpu: str) -> None:
    """Prepare a worker: it ignores Ctrl-C, which its parent decides about, and ends when the parent says so or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with_parent, args=(ending,), daemon=True).start()


def _end_with_parent(ending: Connection) -> None:
    ending.poll(None)
    os._exit(1)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Processes started inside have these environment variables: libraries read them when they are loaded."""
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
def _no_interrupts() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, not even while they start."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
