"""What users set, and the executor that comes of it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

from pdebench_fm.errors import SettingError, UsageError
from pdebench_fm.interfaces import environment_of_workers
from pdefm_slurm.executor import SlurmExecutor
from pdefm_slurm.queue import NAME, folder_of, queued
from pdefm_slurm.task import Bundle


def slurm(
    output: Path,
    device: str = "cpu",
    *,
    partition: str = "",
    account: str = "",
    qos: str = "",
    constraint: str = "",
    time: int | str = "",
    mem: str = "",
    cpus: int = 1,
    gpus: int | None = None,
    nodes: int = 1,
    tasks_per_node: int = 1,
    tasks: int = 100,
    array_parallelism: int = 256,
    notice: int = 90,
    setup: str | list[str] = "",
    sbatch: dict[str, str] | None = None,
    poll: float = 10.0,
) -> Executor:
    """Return an executor that submits to Slurm.

    Args:
        output: folder of results; every node must see it under the same path.
        device: torch device of the run.
        partition: as ``sbatch`` has it; so are the next six.
        account: who pays.
        qos: quality of service.
        constraint: features of nodes.
        time: limit of a task, minutes or ``days-hours:minutes:seconds``; a fit may take longer.
        mem: memory of a node, e.g. ``32G``.
        cpus: cores, and threads, of each process.
        gpus: GPUs of each node; by default one for each process on a CUDA device.
        nodes: machines that fit each job together.
        tasks_per_node: processes on each of them.
        tasks: how many tasks each level of the plan is cut into at most.
        array_parallelism: tasks of an array that run at once.
        notice: seconds before the limit at which fits write their state.
        setup: shell commands before a task, e.g. ``module load cuda``.
        sbatch: more options of ``sbatch``, e.g. ``{"reservation": "pde"}``.
        poll: seconds between two calls of ``squeue``.

    Raises:
        UsageError: submitit or Slurm is missing.
        SettingError: a number is too small.
    """
    try:
        import submitit
    except ImportError as error:
        raise UsageError("--executor slurm needs submitit: pip install 'pdebench_fm[slurm]'") from error
    counts = {"cpus": cpus, "nodes": nodes, "tasks_per_node": tasks_per_node, "tasks": tasks}
    counts |= {"array_parallelism": array_parallelism, "notice": notice}
    for name, value in counts.items():
        if value < 1:
            raise SettingError(name, f"must be at least 1, got {value}")
    limit = _seconds(str(time))
    if limit and notice >= limit:  # 0 is no limit
        raise SettingError("notice", f"must be less than the time limit, {limit} s, got {notice}")
    if queued() is None:
        raise UsageError("--executor slurm: squeue is missing on this machine or does not answer")

    gpus = (tasks_per_node if device.startswith("cuda") else 0) if gpus is None else gpus
    lines = [setup] if isinstance(setup, str) else setup
    options: dict[str, Any] = {"requeue": True, "time": time, "mem": mem, "gpus-per-node": gpus, **(sbatch or {})}
    folder = folder_of(output)
    # Signals wait until Python handles them; it takes over what its parent ignores.
    python = """sh -c 'trap "" TERM USR2; exec "$0" "$@"' """ + shlex.quote(sys.executable)
    made = submitit.SlurmExecutor(folder, python=python)
    made.update_parameters(
        job_name=NAME,
        partition=partition or None,
        account=account or None,
        qos=qos or None,
        constraint=constraint or None,
        time=None,
        wckey=None,
        nodes=nodes,
        ntasks_per_node=1,  # torchrun starts the processes of a node
        cpus_per_task=cpus * tasks_per_node,
        array_parallelism=array_parallelism,
        signal_delay_s=notice,
        stderr_to_stdout=True,
        setup=[
            *(f"export {name}={value}" for name, value in environment_of_workers(cpus).items()),
            *filter(None, lines),
            *([_looks_for(folder)] if nodes > 1 else []),
        ],
        srun_args=[f"--cpus-per-task={cpus * tasks_per_node}", "--kill-on-bad-exit"],
    )
    kept = {name: value for name, value in options.items() if value not in ("", 0)}
    path = [os.path.abspath(entry) for entry in sys.path]
    bundle = partial(Bundle, folder, path=path, nodes=nodes, processes=tasks_per_node, notice=notice)
    return SlurmExecutor(folder, made, kept, tasks, bundle, poll)


def _seconds(limit: str) -> int | None:
    """Return a time limit of ``sbatch`` in seconds; None if it is none.

    >>> [_seconds(limit) for limit in ("30", "1:30", "2:00:00", "1-12", "1-0:30", "")]
    [1800, 90, 7200, 129600, 88200, None]
    """
    days, dash, rest = limit.rpartition("-")
    if not re.fullmatch(r"\d+(:\d+){0,2}", rest) or (dash and not days.isdigit()):
        return None
    parts = [int(part) for part in rest.split(":")]
    if dash or len(parts) == 3:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, (minutes, seconds) = 0, [*parts, 0][:2]
    return 86400 * int(days or 0) + 3600 * hours + 60 * minutes + seconds


def _looks_for(folder: Path) -> str:
    """Return a shell command that ends the script of a task if one of its nodes does not see a folder."""
    says = shlex.quote(f"error: *** a node does not see {folder} ***")
    return f"srun --ntasks-per-node=1 test -d {shlex.quote(str(folder))} || {{ echo {says}; exit 1; }}"
