"""Models that print, one in its own processes: standard output is for results only."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pdefm_unet.model import UNet
from torch import nn
from torch.utils.data import DataLoader

from pdebench_fm.cli import main
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Examples, FitReport
from pdebench_fm.problem import Problem
from pdebench_fm.registry import Registry
from tests.support.command import write_suite
from tests.third_party.doors.elsewhere import Own


class Chatty(Own):
    """Prints in every way there is, and loads its examples in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        print("made")

    def fit(self, train: Examples, *arguments: Any) -> FitReport:
        print("fitting")
        os.write(1, b"from C\n")
        subprocess.run(["echo", "from another process"], check=True)
        assert [int(i) for i in DataLoader(range(len(train)), num_workers=1)] == [*range(len(train))]
        return super().fit(train, *arguments)


class Loud(UNet):
    """Prints when it is asked and when it is built."""

    def __init__(self, width: int = 2) -> None:
        super().__init__(width, 1)

    def supports(self, problem: Problem) -> str | None:
        said("supports")
        return None

    def build(self, problem: Problem) -> nn.Module:
        said("build")
        return super().build(problem)


def said(what: str) -> None:
    print("by", what)
    os.write(1, f"raw by {what}\n".encode())


def test_what_a_model_prints_does_not_get_into_results(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], restored: None
) -> None:
    suite = write_suite(tmp_path, ("[zero-shot, fine-tune, scratch]", "[zero-shot]"))
    registry = Registry(entry_points(group="pdebench_fm")).with_model(ModelEntry("loud", "1", Loud, "prints"))
    run = ("run", str(suite), "--model", "loud", "--json", "--output", str(tmp_path / "runs"))
    for arguments in ((*run, "--dry-run"), (*run, "--workers", "1"), ("check", "model", "loud", "--json")):
        with pytest.raises(SystemExit):
            main([*arguments], registry)
        out, err = capfd.readouterr()
        assert out, err
        assert json.loads(out)
        lines = err.splitlines()
        assert {"by supports", "by build", "raw by supports", "raw by build"} <= set(lines)


def test_json_is_alone_on_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str], restored: None) -> None:
    one_rate = ("[1e-3, 1e-2]", "[1e-3]"), ("[1e-4, 1e-3]", "[1e-4]")
    suite = write_suite(tmp_path, ("fine-tune, scratch]", "fine-tune]"), ("[4, 8]", "[4]"), *one_rate)
    registry = Registry(entry_points(group="pdebench_fm")).with_model(ModelEntry("chatty", "1", Chatty, "prints"))
    command = ["run", str(suite), "--model", "chatty", "--json", "--output", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--workers", "2"], registry)
    out, err = capfd.readouterr()
    assert ended.value.code == 0, err
    assert {record["status"] for record in json.loads(out)} == {"ok"}
    assert {"made", "fitting", "from C", "from another process"} <= set(err.splitlines())
