"""What commands print on a real terminal of 60 to 100 columns: whole, and no line wider than it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.support.command import PDEFM, environment, write_suite

RECORDS = Path(__file__).parents[2] / "leaderboard/records/smoke/smoke"


def on_terminal(columns: int, *arguments: object, folder: Path) -> list[str]:
    """Run a command whose standard output is a terminal of this width; return its lines."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [*PDEFM, *map(str, arguments)],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 1 << 16):
            shown += part
    except OSError:  # how Linux says that the terminal was closed
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return shown.decode().splitlines()


@pytest.mark.parametrize("columns", [60, 100])
def test_tables_fit_and_nothing_is_cut(columns: int, tmp_path: Path) -> None:
    lines = on_terminal(columns, "compare", RECORDS, folder=tmp_path)
    assert max(map(cell_len, lines)) <= columns
    text = "\n".join(lines)
    assert "…" not in text
    for word in ("SYS-2(1,2)", "fine-tune", "scratch", "data", "saving", "unsupported"):
        assert word in text, word


def test_lists_and_plans_fit_and_nothing_is_cut(tmp_path: Path) -> None:
    lines = on_terminal(60, "list", "suites", folder=tmp_path)
    assert max(map(cell_len, lines)) <= 60
    assert any(line.startswith(" " * 8) for line in lines)  # folded below its column
    name = "B from A after a rather long journey through all of its names"
    suite = write_suite(
        tmp_path, ("B from A", name), ("protocols: [zero-shot, fine-tune, scratch]", "protocols: [scratch]")
    )
    lines = on_terminal(60, "run", suite, "--model", "unet", "--dry-run", folder=tmp_path)
    table = lines[: next(number for number, line in enumerate(lines) if line.startswith("Weights take"))]
    assert max(map(cell_len, table)) <= 60
    assert "training examples" in "\n".join(table)
