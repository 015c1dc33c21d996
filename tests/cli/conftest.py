"""What tests of commands share."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from pdebench_fm.cli import main
from pdebench_fm.registry.discovery import Registry
from tests.support.command import own_environment

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def restored() -> Iterator[None]:
    """What happens at SIGTERM is as before afterwards; a command in this process changes it."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], restored: None) -> Call:
    """Run a command in this process; returns its exit code, standard output and standard error.

    ``registry=`` replaces the installed plugins.
    """

    def run(*arguments: object, registry: Registry | None = None) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught, own_environment():
            main([str(argument) for argument in arguments], registry)
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return run
