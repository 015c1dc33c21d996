"""``--debug``, ``-v`` and ``--log-file``, before and after the command."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.command import pdefm, write_suite

Call = Callable[..., tuple[int, str, str]]

PLUGIN = """
from pdebench_fm.hookspecs import ModelEntry, hookimpl
from pdefm_baselines.reference import Mean

class Broken(Mean):
    def {method}(self, *arguments):
        raise ValueError("not today")

@hookimpl
def pdefm_models():
    return [ModelEntry("broken", "1", "breaking:Broken", "raises")]
"""
LINE = 'breaking.py", line 7'


def broken(folder: Path, *arguments: str, method: str = "fit", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command where a model is installed one of whose methods raises."""
    (folder / "breaking.py").write_text(PLUGIN.format(method=method))
    about = folder / "breaking-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pdebench_fm]\nbreaking = breaking\n")
    write_suite(folder)
    return pdefm(*arguments, folder=folder, PYTHONPATH=str(folder), **variables)


RUN = ("run", "tiny.yaml", "--model", "broken")


@pytest.mark.parametrize("method", ["__init__", "supports", "initialise", "fit", "predict"])
def test_debug_shows_the_line_of_the_plugin_at_any_stage(tmp_path: Path, method: str) -> None:
    plain = broken(tmp_path, *RUN, method=method)
    assert plain.returncode in (1, 3)
    assert "not today" in plain.stderr
    assert "Traceback" not in plain.stderr
    assert LINE in broken(tmp_path, *RUN, "--debug", method=method).stderr


def test_debug_may_stand_anywhere_and_in_the_environment(tmp_path: Path) -> None:
    for shown in (
        broken(tmp_path, "--debug", *RUN, method="supports"),
        broken(tmp_path, *RUN, method="supports", PDEFM_DEBUG="1"),
    ):
        assert LINE in shown.stderr
    assert "--debug shows the traceback" in broken(tmp_path, *RUN, method="supports").stderr


def test_debug_shows_why_a_plugin_could_not_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "breaking.py").unlink(missing_ok=True)
    broken(tmp_path, "plugins")
    (tmp_path / "breaking.py").write_text("import no_such_module\n")
    shown = pdefm("run", "tiny.yaml", "--model", "broken", "--debug", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert 'breaking.py", line 1' in shown.stderr


def test_a_failed_job_names_its_log(tmp_path: Path) -> None:
    said = broken(tmp_path, *RUN).stderr
    (log, *_) = (tmp_path / "runs" / "jobs").glob("*/failure.log")
    assert str(log.relative_to(tmp_path)) in said


def test_a_log_file_and_v_say_what_runs(tmp_path: Path) -> None:
    write_suite(tmp_path)
    done = pdefm("run", "tiny.yaml", "--model", "zero", "-v", "--log-file", "log.txt", folder=tmp_path)
    assert done.returncode == 0
    for text in (done.stderr, (tmp_path / "log.txt").read_text()):
        assert "pdebench_fm.run: submit B from A · scratch · N=0" in text


def test_workers_log_their_failures_with_tracebacks(tmp_path: Path) -> None:
    broken(tmp_path, *RUN, "--workers", "2", "--device", "cpu", "--log-file", "log.txt")
    assert LINE in (tmp_path / "log.txt").read_text()


def test_a_log_file_that_cannot_be_written_is_bad_usage(tmp_path: Path, call: Call) -> None:
    code, _, err = call("list", "models", "--log-file", tmp_path / "none" / "log.txt")
    assert code == 2
    assert "--log-file" in err


def test_options_end_with_their_command(call: Call) -> None:
    before = dict(os.environ)
    call("list", "models", "--debug", "-v")
    assert dict(os.environ) == before
