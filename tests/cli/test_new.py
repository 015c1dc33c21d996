"""``pdefm new``: what it writes passes the gate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from pdebench_fm.registry import discovery

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("kind", ["model", "system", "metric", "protocol"])
def test_what_it_writes_passes_the_gate(kind: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"my-{kind}"
    code, out, _ = call("new", kind, name)
    assert code == 0
    module = f"my_{kind}"
    monkeypatch.syspath_prepend(tmp_path / name)
    points = [*entry_points(group="pdebench_fm"), EntryPoint(module, module, "pdebench_fm")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points if group == "pdebench_fm" else [])
    discovery.installed.cache_clear()
    try:
        command = out.splitlines()[1].removeprefix("pdefm ").replace("'", "").split()
        code, said, err = call(*command)
        assert code == 0, said + err
    finally:
        discovery.installed.cache_clear()
        for loaded in [loaded for loaded in sys.modules if loaded.startswith(module)]:
            del sys.modules[loaded]
    assert (tmp_path / name / "tests" / f"test_{module}.py").exists()


def test_it_never_overwrites_and_names_are_checked(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert call("new", "model", "there")[0] == 2
    assert call("new", "model", "Not A Name")[0] == 2
    assert not list((tmp_path / "there").iterdir())


@pytest.mark.parametrize(("name", "said"), [("json", "Python has something"), ("fno", "is a registered model")])
def test_names_that_are_taken_are_refused(
    name: str, said: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call("new", "model", name)
    assert (code, said in err, list(tmp_path.iterdir())) == (2, True, [])
