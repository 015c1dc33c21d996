"""The generated files of a leaderboard, and their check: ``README.md``, ``index.html``, a CSV and a JSON file."""

from __future__ import annotations

import logging
from pathlib import Path

from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard.audit import NO_RULES, Rules
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.lines import first_difference
from pdebench_fm.leaderboard.page import make_rows, render_csv, render_json, render_page
from pdebench_fm.leaderboard.readme import render_readme
from pdebench_fm.leaderboard.store import RefusedError, write_files

_LOG = logging.getLogger("pdebench_fm.leaderboard")


def render(board: Board) -> dict[str, str]:
    """Return the generated files, name → text. The same records always give the same text."""
    rows = make_rows(board)
    return {
        "README.md": render_readme(rows),
        "index.html": render_page(rows),
        "leaderboard.csv": render_csv(rows),
        "leaderboard.json": render_json(rows),
    }


def build(directory: Path, rules: Rules = NO_RULES) -> list[Path]:
    """Write the generated files, unless anything is wrong (`RefusedError`)."""
    board = Board.load(directory, rules)
    if wrong := board.wrong():
        raise RefusedError("nothing built", wrong)
    for suite in board.unknown_suites:
        _LOG.warning("%s is not installed: without --suite FILE its models are not ranked", suite)
    texts = {directory / name: text for name, text in render(board).items()}
    write_files({path: text.encode("utf-8") for path, text in texts.items()})
    return list(texts)


def check(directory: Path, rules: Rules = NO_RULES) -> list[str]:
    """Check all records and rebuild in memory. Returns what is wrong, one line each."""
    try:
        board = Board.load(directory, rules)
        wrong = board.wrong()
    except RecordError as error:
        return [str(error)]
    if wrong:
        return wrong
    unknown = ", ".join(board.unknown_suites)
    advice = f", or give --suite FILE for {unknown} here too" if unknown else ""
    for name, text in render(board).items():
        file = directory / name
        if not file.is_file():
            wrong.append(f"{file}: missing; run pdefm leaderboard build, or name another --directory")
        elif (line := first_difference(file.read_bytes(), text.encode("utf-8"))) is not None:
            wrong.append(f"{file}:{line}: differs from what the records give; run pdefm leaderboard build{advice}")
    return wrong
