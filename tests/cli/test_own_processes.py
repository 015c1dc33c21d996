"""A model that prints, and whose fit starts processes of its own: standard output is for results only."""

from __future__ import annotations

import json
import os
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from pdebench_fm.cli import main
from pdebench_fm.hookspecs import ModelEntry
from pdebench_fm.interfaces import Examples, FitReport
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


def test_json_is_alone_on_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
