"""``--debug``, ``-v`` and ``--log-file``, at any place of any command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.command import pdefm, write_suite

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


def run_broken(folder: Path, method: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "breaking.py").write_text(PLUGIN.format(method=method))
    about = folder / "breaking-1.0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pdebench_fm]\nbreaking = breaking\n")
    write_suite(folder)
    return pdefm(*options, "run", "tiny.yaml", "--model", "broken", folder=folder, PYTHONPATH=str(folder), **variables)


@pytest.mark.parametrize(("method", "how"), [("supports", "--debug"), ("fit", "PDEFM_DEBUG")])
def test_debug_shows_the_line_of_the_plugin(tmp_path: Path, method: str, how: str) -> None:
    plain = run_broken(tmp_path, method)
    assert plain.returncode in (1, 3)
    assert "Traceback" not in plain.stderr
    assert "not today" in plain.stderr
    shown = (
        run_broken(tmp_path, method, "--debug") if method == "fit" else run_broken(tmp_path, method, PDEFM_DEBUG="1")
    )
    assert 'breaking.py", line 7' in shown.stderr


def test_a_failed_job_names_its_log(tmp_path: Path) -> None:
    said = run_broken(tmp_path, "fit").stderr
    (log, *_) = (tmp_path / "runs" / "jobs").glob("*/failure.log")
    assert str(log.relative_to(tmp_path)) in said


def test_a_log_file_and_v_say_what_runs(tmp_path: Path) -> None:
    write_suite(tmp_path)
    done = pdefm("run", "tiny.yaml", "--model", "zero", "-v", "--log-file", "log.txt", folder=tmp_path)
    assert done.returncode == 0
    for text in (done.stderr, (tmp_path / "log.txt").read_text()):
        assert "pdebench_fm.run: submit B from A · scratch · N=0" in text
