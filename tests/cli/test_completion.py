"""What the shell completes, asked as bash asks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command import pdefm, write_suite


@pytest.mark.parametrize(
    ("line", "begun", "offered"),
    [
        ("run", "ood_sys2", ["ood_sys2", "ood_sys2_exact"]),
        ("run smoke --model", "une", ["unet"]),
        ("run ood_sys1 --profile", "", ["lite", "paper", "smoke"]),
        ("run tiny.yaml --model unet --profile", "t", ["tiny"]),
        ("run no-such-suite --profile", "", []),
        ("run smoke --executor", "d", ["debug"]),
        ("show model", "mea", ["mean"]),
        ("check protocol", "z", ["zero-shot"]),
        ("status", "--w", ["--watch"]),
    ],
)
def test_names_are_completed(tmp_path: Path, line: str, begun: str, offered: list[str]) -> None:
    write_suite(tmp_path)
    assert completed(tmp_path, line, begun) == offered


def test_plugins_say_nothing_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "import sys, warnings\nprint('out')\nprint('err', file=sys.stderr)\nwarnings.warn('w')\n"
    )
    about = tmp_path / "loud-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pdebench_fm]\nloud = loud\n")
    assert completed(tmp_path, "run smoke --model", "une") == ["unet"]


def completed(folder: Path, line: str, begun: str) -> list[str]:
    """Return what is offered for the word that begins so, at the end of a command line."""
    words = ["pdefm", *line.split()]
    asked = pdefm(
        folder=folder,
        _PDEFM_COMPLETE="bash_complete",
        COMP_WORDS=" ".join([*words, begun]),
        COMP_CWORD=str(len(words)),
        PYTHONPATH=str(folder),
    )
    assert (asked.returncode, asked.stderr) == (0, "")
    return sorted(item.partition(",")[2] for item in asked.stdout.split())
