"""``--debug``, ``-v`` and ``--log-file``, before and after the command."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pdefm_baselines.reference import Mean

from pdebench_fm.cli import main
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.registry import Registry
from tests.support.command import pdefm, write_suite

Call = Callable[..., tuple[int, str, str]]
RUN = ("run", "tiny.yaml", "--model", "broken")
ALONE = ("--workers", "1")
LINE = 'test_logs.py", line '


class BreaksInAFit(Mean):
    def fit(self, *arguments: object):  # type: ignore[no-untyped-def]
        raise ValueError("not today")


def broken(method: str = "fit") -> Registry:
    """The installed plugins and a model one of whose methods raises."""
    made = type("Broken", (Mean,), {method: BreaksInAFit.fit}) if method != "fit" else BreaksInAFit
    return Registry(entry_points(group="pdebench_fm")).with_model(ModelEntry("broken", "1", made, "raises"))


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PDEFM_DEBUG", raising=False)
    write_suite(tmp_path)


@pytest.mark.parametrize("method", ["__init__", "supports", "initialise", "fit", "predict"])
def test_debug_shows_the_line_of_the_plugin_at_any_stage(call: Call, method: str) -> None:
    code, _, plain = call(*RUN, *ALONE, registry=broken(method))
    assert code in (1, 3)
    assert "not today" in plain
    assert "Traceback" not in plain
    assert LINE in call(*RUN, *ALONE, "--debug", registry=broken(method))[2]


def test_debug_may_stand_anywhere_and_in_the_environment(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "--debug shows the traceback" in call(*RUN, registry=broken("supports"))[2]
    assert LINE in call("--debug", *RUN, registry=broken("supports"))[2]
    monkeypatch.setenv("PDEFM_DEBUG", "1")
    assert LINE in call(*RUN, registry=broken("supports"))[2]


def test_debug_shows_why_a_plugin_could_not_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "breaking.py").write_text("import no_such_module\n")
    about = tmp_path / "breaking-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pdebench_fm]\nbreaking = breaking\n")
    shown = pdefm(*RUN, "--debug", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert 'breaking.py", line 1' in shown.stderr


def test_a_log_file_and_v_say_what_runs(tmp_path: Path, call: Call) -> None:
    code, _, err = call("run", "tiny.yaml", "--model", "zero", *ALONE, "-v", "--log-file", "log.txt")
    assert code == 0
    for text in (err, (tmp_path / "log.txt").read_text()):
        assert "pdebench_fm.run: submit B from A · scratch · N=0" in text


def test_jobs_that_fail_in_workers_show_and_log_tracebacks_and_name_their_logs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], restored: None
) -> None:
    write_suite(tmp_path, ("[zero-shot, fine-tune, scratch]", "[zero-shot]"))  # one worker at a time
    with pytest.raises(SystemExit):
        main([*RUN, "--workers", "2", "--device", "cpu", "--debug", "--log-file", "log.txt"], broken())
    said = capfd.readouterr().err
    assert LINE in said
    assert LINE in (tmp_path / "log.txt").read_text()
    logs = [str(log.relative_to(tmp_path)) for log in (tmp_path / "runs" / "jobs").glob("*/failure.log")]
    assert any(log in said for log in logs)


def test_a_log_file_that_cannot_be_written_is_bad_usage(tmp_path: Path, call: Call) -> None:
    code, _, err = call("list", "models", "--log-file", tmp_path / "none" / "log.txt")
    assert code == 2
    assert "--log-file" in err


def test_options_end_with_their_command(call: Call) -> None:
    before = dict(os.environ)
    call("list", "models", "--debug", "-v")
    assert dict(os.environ) == before
