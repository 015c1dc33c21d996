"""Logging by Python's `logging`, set up from the environment so that worker processes log as their parent does."""

from __future__ import annotations

import logging
import os
import sys
import traceback

from pdebench_fm._util.environment import DEBUG, LOG_FILE, VERBOSE
from pdebench_fm.errors import UsageError

_LOG = logging.getLogger("pdebench_fm")


def set_up() -> None:
    """Log as the environment says, in place of an earlier call."""
    for earlier in list(_LOG.handlers):
        _LOG.removeHandler(earlier)
        earlier.close()
    _LOG.setLevel(logging.NOTSET)
    if is_verbose():
        _add(logging.StreamHandler(sys.stderr), logging.INFO)
    if file := os.environ.get(LOG_FILE):
        try:
            _add(logging.FileHandler(file, encoding="utf-8"), logging.DEBUG)
        except OSError as error:
            raise UsageError(f"--log-file {file}: {error.strerror or error}") from error


def is_debug() -> bool:
    """Whether tracebacks are shown."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def is_verbose() -> bool:
    """Whether ``-v`` was given."""
    return os.environ.get(VERBOSE, "") not in ("", "0")


def show_traceback(error: BaseException) -> None:
    """Log an error with its traceback and causes; with ``--debug``, print that too."""
    _LOG.debug("%s", error, exc_info=error)
    if is_debug():
        traceback.print_exception(error, file=sys.stderr)


def _add(handler: logging.Handler, level: int) -> None:
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    _LOG.addHandler(handler)
    _LOG.setLevel(min(level, _LOG.level or level))
