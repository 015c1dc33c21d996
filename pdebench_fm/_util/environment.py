"""Environment variables of worker processes, and those that command-line options set so that workers read the same."""

DEBUG, VERBOSE, LOG_FILE = "PDEFM_DEBUG", "PDEFM_VERBOSE", "PDEFM_LOG_FILE"
"""Show tracebacks, log to standard error, log to this file."""
PLUGINS = "PDEFM_PLUGINS"
"""Which plugins are loaded."""


def environment_of_workers(threads: int) -> dict[str, str]:
    """Return what processes that do jobs have in their environment: as many threads, and no modules of this folder."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    # Without the last, a signal.py or socket.py in the current folder would take the place of Python's own.
    return {**dict.fromkeys(names, str(threads)), "PYTHONSAFEPATH": "1"}
