"""The executor ``slurm``: jobs as job arrays of a Slurm cluster, by submitit."""

from pdebench_fm.hookspecs import ExecutorEntry, hookimpl


@hookimpl
def pdefm_executors() -> list[ExecutorEntry]:
    """Register the executor."""
    return [
        ExecutorEntry(
            "slurm",
            "1",
            "pdefm_slurm.settings:slurm",
            "job arrays of a Slurm cluster",
            elsewhere=True,
            queue="pdefm_slurm.queue:jobs_of",
        )
    ]
