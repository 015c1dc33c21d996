"""What runs on a node: one task of a job array does a bundle of jobs, one after the other.

Before the time limit, Slurm sends SIGUSR2: the fit under way writes its state, and the task queues itself again. On
SIGTERM, which comes before a preemption, it writes its state and works on until the end. Signals are handled before
anything heavy is imported, so this module and what it imports need no torch.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pdebench_fm.errors import WorkerDiedError
from pdebench_fm.interfaces import is_saved, save_soon
from pdefm_slurm.queue import outcome_file, submission, submitted, write


@dataclass(frozen=True)
class Bundle:
    """The jobs of one task.

    Args:
        folder: where outcomes go.
        calls: a pickled list of functions without arguments that do the jobs.
        count: how many there are.
        path: folders in which Python finds what it has to import, as the run does.
        nodes: machines that do each job together.
        processes: processes on each of them.
        notice: seconds between SIGUSR2 and the time limit.
    """

    folder: Path
    calls: bytes
    count: int
    path: Sequence[str]
    nodes: int
    processes: int
    notice: float

    def run(self) -> None:
        """Do the jobs that have no outcome yet; called by submitit on every node."""
        _obey(self, requeues=True)
        if self.nodes * self.processes == 1:
            self.work()
            return
        from submitit import JobEnvironment

        from pdebench_fm.training import launch

        environment = JobEnvironment()
        code = launch(
            self.processes,
            ["-m", "pdefm_slurm.task", str(environment.paths.submitted_pickle)],
            nodes=self.nodes,
            meeting=f"{environment.hostnames[0]}:{_port(environment.job_id)}",
        )
        if code:
            raise WorkerDiedError(f"a process ended with code {code}")

    def work(self, is_main: bool = True) -> None:
        """Do the jobs in this process.

        Args:
            is_main: whether this process writes outcomes.
        """
        calls: list[Callable[[], Any]] = []
        sys.path.extend(entry for entry in self.path if entry not in sys.path)
        for number in range(self.count):
            path = outcome_file(self.folder, _this_task(), number)
            if path.exists():  # before the task was queued again
                continue
            try:
                calls = calls or pickle.loads(self.calls)
                outcome: Any = (calls[number](), None)
            except Exception as error:
                traceback.print_exc()  # into the log of the task
                outcome = (None, error)
            if is_main:
                _write(path, outcome)
            if outcome[1] is not None and not is_main:
                raise outcome[1]


def _write(path: Path, outcome: tuple[Any, BaseException | None]) -> None:
    import cloudpickle

    try:
        content = cloudpickle.dumps(outcome)
    except Exception as error:
        content = pickle.dumps((None, RuntimeError(f"what the job returned cannot be pickled: {error}")))
    path.parent.mkdir(exist_ok=True)
    write(path, content)


def _this_task() -> str:
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def _port(task: str) -> int:
    """Return a port for the processes of a task to meet; tasks of one machine need different ones."""
    return 20000 + sum(int(part) * factor for part, factor in zip(task.split("_"), (97, 1), strict=False)) % 20000


def _obey(bundle: Bundle, requeues: bool) -> None:
    """Handle the signals that Slurm sends."""
    began, task = time.time(), _this_task()

    def requeue() -> None:
        """Queue the task again once its state is written, if it got on since it began."""
        before, end = _states(bundle, task), time.monotonic() + max(1.0, min(0.5 * bundle.notice, 30.0))
        while not (saved := is_saved() or _states(bundle, task) != before) and time.monotonic() < end:
            time.sleep(0.05)
        stuck = outcome_file(bundle.folder, task, "stuck")
        if saved or _has_outcome(bundle, task, began):
            stuck.unlink(missing_ok=True)
        elif stuck.exists():
            print("twice nothing was done that could be saved: not queued again", file=sys.stderr, flush=True)
            return
        else:
            stuck.parent.mkdir(exist_ok=True)
            stuck.touch()
        print("queued again", file=sys.stderr, flush=True)
        subprocess.run(["scontrol", "requeue", task], check=False)

    def before_the_limit(number: int, frame: FrameType | None) -> None:
        save_soon()
        if requeues and os.environ.get("SLURM_PROCID", "0") == "0":
            threading.Thread(target=requeue, daemon=True).start()

    def terminate(number: int, frame: FrameType | None) -> None:
        save_soon()
        if not submission(bundle.folder, task).exists():  # the run was broken off
            os._exit(143)

    signal.signal(signal.SIGUSR2, before_the_limit)
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)


def _states(bundle: Bundle, task: str) -> dict[Path, int]:
    """Return when the states of the task's fits were written, also by processes that torchrun started."""
    found: dict[Path, int] = {}
    for key, place in submitted(bundle.folder).items():
        if place.task == task:
            for path in (bundle.folder.parent / "jobs" / key / "workspace").glob("resume*"):
                with suppress(OSError):  # the fit has just ended
                    found[path] = path.stat().st_mtime_ns
    return found


def _has_outcome(bundle: Bundle, task: str, since: float) -> bool:
    paths = (outcome_file(bundle.folder, task, number) for number in range(bundle.count))
    return any(path.exists() and path.stat().st_mtime >= since for path in paths)


def main(submitted: str) -> None:
    """Do a bundle in one of several processes that torchrun started."""
    from submitit.core.utils import DelayedSubmission

    call: Any = DelayedSubmission.load(submitted)
    bundle: Bundle = call.function.__self__
    _obey(bundle, requeues=False)
    bundle.work(is_main=os.environ["RANK"] == "0")


if __name__ == "__main__":
    main(sys.argv[1])
