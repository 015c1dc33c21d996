"""What ``--debug``, ``-v`` and ``--log-file`` do: tracebacks, and logs by Python's `logging`."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from pdebench_fm.errors import UsageError

DEBUG = "PDEFM_DEBUG"
_LOG = "pdebench_fm"


def take_log_options(arguments: Sequence[str]) -> list[str]:
    """Set up logging from ``--debug``, ``-v`` and ``--log-file``, which any command takes at any place.

    Returns:
        the other arguments.
    """
    kept: list[str] = []
    verbose, file = False, None
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            kept += [argument, *rest]
        elif argument == "--debug":
            os.environ[DEBUG] = "1"  # worker processes inherit it
        elif argument in ("-v", "--verbose"):
            verbose = True
        elif argument == "--log-file" or argument.startswith("--log-file="):
            file = argument.partition("=")[2] if "=" in argument else next(rest, None)
            if not file:
                raise UsageError("--log-file needs the path of a file")
        else:
            kept.append(argument)
    _set_up(verbose, file)
    return kept


def is_debug() -> bool:
    """Whether tracebacks are shown."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def is_verbose() -> bool:
    """Whether ``-v`` was given."""
    return logging.getLogger(_LOG).isEnabledFor(logging.INFO)


def show_traceback(error: BaseException) -> None:
    """Log an error with its traceback; with ``--debug`` show it, the causes in plugins included."""
    logging.getLogger(_LOG).debug("%s", error, exc_info=error)
    if is_debug():
        traceback.print_exception(error, file=sys.stderr)


def _set_up(verbose: bool, file: str | None) -> None:
    logger = logging.getLogger(_LOG)
    for earlier in list(logger.handlers):  # of an earlier call in the same process
        logger.removeHandler(earlier)
    logger.setLevel(logging.NOTSET)
    form = logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S")
    if verbose:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setLevel(logging.INFO)
        handler.setFormatter(form)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    if file:
        try:
            handler = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--log-file {file}: {error.strerror or error}") from error
        handler.setFormatter(form)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
