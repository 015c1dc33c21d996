"""What `evaluate` shows in a notebook while it runs, with stand-ins for IPython and ipywidgets."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import pytest

import pdebench_fm
from tests.support.command import write_suite


class ZMQInteractiveShell:
    """What a kernel of Jupyter has; libraries know it by this name."""


class Output:
    """A place in the notebook that can be written again."""

    made: list[Output]

    def __init__(self) -> None:
        self.closed = False
        self.made.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def clear_output(self, wait: bool = False) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a notebook was asked to show."""
    shown: list[Any] = []
    Output.made = []
    for name, content in (
        ("IPython", {"version_info": (9, 0, 0)}),
        ("IPython.display", {"display": shown.append}),
        ("ipywidgets", {"Output": Output}),
    ):
        module = ModuleType(name)
        module.__spec__ = sys.__spec__  # `find_spec` asks for one
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    return shown


def test_bars_move_while_it_runs_and_the_result_is_a_table(tmp_path: Path, shown: list[Any]) -> None:
    result = pdebench_fm.evaluate("mean", write_suite(tmp_path), device="cpu", output=tmp_path / "runs")
    texts = [renderable.text for renderable in shown if hasattr(renderable, "text")]
    assert any(text.startswith("jobs") and "/" in text for text in texts)
    assert any("[1/" in text and "pre-training poisson" in text for text in texts)
    assert [output.closed for output in Output.made] == [True]
    assert "<table>" in result._repr_html_()
    assert len(repr(result)) < 2000


def test_nothing_is_shown_if_no_progress_is_wanted(tmp_path: Path, shown: list[Any]) -> None:
    pdebench_fm.evaluate("mean", write_suite(tmp_path), device="cpu", output=tmp_path / "runs", progress=False)
    assert shown == []
    assert Output.made == []
