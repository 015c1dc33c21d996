"""The version of a class is that of the code it runs, wherever that came from."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pdebench_fm.errors import UsageError
from pdebench_fm.registry.code import code_version

MODEL = '''
from functools import partial

import numpy as np
import torch

from project_helpers import tools
from project_helpers.layers import Block as Layer

WIDTH = {"default": 8}
TABLE = torch.arange(4.0)
KNOWN = {"a", "b", "c", "d"}


class Base:
    rate = 1.0

    @property
    def size(self):
        return WIDTH["default"]


class Model(Base):
    """A model."""

    scaled = partial(np.multiply, 2)

    def __init__(self, width: int = 4):
        super().__init__()
        self.width = width

    def build(self):
        from project_helpers import late

        return [Layer(i) for i in range(self.width) if i in {1, 2, 3}], tools.make(TABLE), late.value()
'''
TOOLS = "def make(x):\n    return x + inner()\n\n\ndef inner():\n    return 1\n\n\ndef unused():\n    return 2\n"
LAYERS = "class Block:\n    def __init__(self, i):\n        self.i = i\n"
LATE = "def value():\n    return 5\n"

Load = Callable[[], Any]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a model and modules of its own."""
    package = tmp_path / "project_helpers"
    package.mkdir()
    (tmp_path / "project_model.py").write_text(MODEL)
    for name, text in (("__init__", ""), ("tools", TOOLS), ("layers", LAYERS), ("late", LATE)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("project_")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def version(fresh: bool = True) -> str:
    if fresh:
        _forget()
    return code_version(importlib.import_module("project_model").Model)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


CHANGES = {
    "its method": ("project_model.py", "range(self.width)", "range(self.width + 1)"),
    "a constant": ("project_model.py", '"default": 8', '"default": 9'),
    "a tensor": ("project_model.py", "arange(4.0)", "arange(5.0)"),
    "a default": ("project_model.py", "width: int = 4", "width: int = 5"),
    "its base": ("project_model.py", "rate = 1.0", "rate = 2.0"),
    "an attribute": ("project_model.py", "np.multiply, 2", "np.multiply, 3"),
    "a set in code": ("project_model.py", "{1, 2, 3}", "{1, 2, 4}"),
    "a second file": ("project_helpers/tools.py", "x + inner()", "x - inner()"),
    "a helper's helper": ("project_helpers/tools.py", "return 1", "return 3"),
    "a class of a second file": ("project_helpers/layers.py", "self.i = i", "self.i = -i"),
    "what is imported late": ("project_helpers/late.py", "return 5", "return 6"),
}


@pytest.mark.parametrize(("file", "old", "new"), CHANGES.values(), ids=CHANGES.keys())
def test_whatever_it_runs_is_in_its_version(project: Path, file: str, old: str, new: str) -> None:
    before = version()
    edit(project / file, old, new)
    assert version(fresh=False) == before  # the code that was imported still runs
    assert version() != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("project_model.py", "class Base", "# a remark\n\n\nclass Base"),
        ("project_helpers/tools.py", "return 2", "return 7"),  # unused
    ],
)
def test_what_it_does_not_run_is_not(project: Path, file: str, old: str, new: str) -> None:
    before = version()
    edit(project / file, old, new)
    assert version() == before


def test_every_process_says_the_same(project: Path) -> None:
    code = "import project_model; from pdebench_fm.registry import code; print(code.code_version(project_model.Model))"
    # Sets here are in another order than there: this process drew its seed.
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(project)}
    assert subprocess.check_output([sys.executable, "-c", code], env=environment, text=True).strip() == version()


def made(text: str, **names: Any) -> Any:
    """A class of a cell of a notebook, which has no file."""
    space: dict[str, Any] = {"__name__": "__main__", **names}
    exec(textwrap.dedent(text), space)
    return space["Model"]


CELL = """
    class Model:
        def build(self):
            return helper() + offset
"""


def test_a_class_without_a_file_is_described_too() -> None:
    one, other = (made(f"def helper(): return {n}\n{textwrap.dedent(CELL)}", offset=1) for n in (1, 2))
    assert code_version(one) != code_version(other)
    assert code_version(one) == code_version(made(f"def helper(): return 1\n{textwrap.dedent(CELL)}", offset=1))
    assert code_version(one) != code_version(made(f"def helper(): return 1\n{textwrap.dedent(CELL)}", offset=2))


def test_a_closure_counts() -> None:
    def factory(n: int) -> type:
        class Model:
            def build(self) -> int:
                return n

        return Model

    assert code_version(factory(1)) == code_version(factory(1)) != code_version(factory(2))


def test_globals_that_only_share_a_name_with_an_attribute_do_not_count() -> None:
    text = "class Model:\n    def build(self):\n        return self.data"
    assert code_version(made(text, data=open)) == code_version(made(text, data=object()))


def test_what_cannot_be_described_is_refused() -> None:
    import threading

    text = "class Model:\n    def build(self):\n        return lock"
    with pytest.raises(UsageError, match=r"^Model refers to <unlocked .* pass a ModelEntry with a version$"):
        code_version(made(text, lock=threading.Lock()))


def test_modules_made_by_hand_are_of_the_project() -> None:
    helper = ModuleType("by_hand")
    exec("def make(): return 1", vars(helper))
    text = "class Model:\n    def build(self):\n        return by_hand.make()"
    before = code_version(made(text, by_hand=helper))
    exec("def make(): return 2", vars(helper))
    assert code_version(made(text, by_hand=helper)) != before
