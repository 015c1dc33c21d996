"""Every exception this package raises on purpose.

PdefmError                    anything below; the command line prints it as one line
├── UsageError                what the user gave cannot be used (exit code 2)
│   ├── SettingError          one named setting of a sampler, model or suite is wrong
│   ├── SuiteError            a suite file is invalid; carries file:line:column
│   ├── UnknownNameError      no entry of that name; names the nearest one
│   └── UnsupportedError      a model cannot take a problem; carries the model's own reason
├── PluginError               a plugin could not be loaded or two plugins collide
├── DataFileError             an HDF5 file is unreadable, truncated or of another shape (exit code 2)
│   └── NotWrittenError       one could not be written (exit code 1)
├── RecordError               a result record is malformed or contradicts itself (exit code 2)
├── DivergedError             a fit or score is not finite: a result, recorded as ``diverged``
├── WorkerDiedError           the process that did a job died; the job has failed, the run goes on
└── RunError                  the run itself failed (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

PLUGIN_ERRORS = (Exception, SystemExit)
"""What a plugin may raise: one that calls ``sys.exit`` must not end the program that uses it."""


class Terminated(BaseException):
    """SIGTERM has arrived. No `SystemExit`, and so not in `PLUGIN_ERRORS`: this one does end the program."""

    arrived = False  # imports of compiled modules may swallow what a signal raises: the runner looks here, too


class PdefmError(Exception):
    """Base of all errors raised on purpose; its text is one clear line."""

    exit_code = 1


class UsageError(PdefmError):
    """What the user gave cannot be used."""

    exit_code = 2


class SettingError(UsageError):
    """One named setting is wrong.

    Args:
        setting: name of the setting, as the user wrote it.
        message: what was expected and what came, e.g. ``must be [low, high] with low < high, got [5, 1]``.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message


class SuiteError(UsageError):
    """A suite file is invalid; the text begins with ``file:line:column``."""


class UnknownNameError(UsageError):
    """No entry of that name; the text lists what there is and the nearest valid name."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}{suggestion(name, valid)}")
        self.kind = kind
        self.name = name


class UnsupportedError(UsageError):
    """A model cannot take a problem."""


class PluginError(PdefmError):
    """A plugin could not be loaded, or two plugins claim the same name."""


class DataFileError(PdefmError):
    """A data file is unreadable, truncated or not of the expected shape."""

    exit_code = 2


class NotWrittenError(DataFileError):
    """A data file could not be written: no slip of the user's, but a full disk or examples that are none."""

    exit_code = 1


class RecordError(PdefmError):
    """A result record is malformed or contradicts itself."""

    exit_code = 2


class DivergedError(PdefmError):
    """A loss or score is not finite. The job is recorded as diverged, not as failed."""


class WorkerDiedError(PdefmError):
    """The process that did a job died. Executors raise it from the job's future; the run goes on."""


class RunError(PdefmError):
    """The run itself failed."""


def suggestion(name: str, valid: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``: the nearest name, all that begin so, or the valid names where none is near.

    >>> suggestion("wdith", ["width", "modes"])
    "; did you mean 'width'?"
    """
    names = sorted(valid)
    begun = [other for other in names if name and other.startswith(name)]
    if len(begun) > 1:
        return "; did you mean one of " + ", ".join(begun) + "?"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    if not names:
        return "; there are none"
    return "; expected one of " + ", ".join(names)
