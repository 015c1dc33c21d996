"""The generated files of a leaderboard, and their check: ``README.md``, ``index.html``, a CSV and a JSON file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pdebench_fm.errors import RecordError
from pdebench_fm.leaderboard.audit import Verify
from pdebench_fm.leaderboard.badges import badges_that_hold
from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.lines import first_difference
from pdebench_fm.leaderboard.page import make_rows, render_csv, render_json, render_page
from pdebench_fm.leaderboard.readme import render_readme
from pdebench_fm.leaderboard.standing import Planned, group, standings
from pdebench_fm.leaderboard.store import RefusedError, write_files
from pdebench_fm.records.solver import SolverRecord

CheckSolvers = Callable[[Sequence[tuple[str, SolverRecord]]], Iterable[str]]
"""Yields what is wrong with solver records, see `pdebench_fm.leaderboard.solvers.solver_problems`."""


def render(board: Board, planned: Planned | None = None) -> dict[str, str]:
    """Return the generated files, name → text. The same records always give the same text.

    Args:
        planned: gives a suite's planned cells; by default the union over all models.
    """
    places = {record.key: (path.as_posix(), line) for path, line, record in board.stored}
    records = [record for *_, record in board.stored]
    solvers = [record for _, record in board.solvers]
    verified, errors = badges_that_hold(board.badges, records), board.errors()
    results = [(found, standings(found, verified, board.confirmations, errors)) for found in group(records, planned)]
    rows = make_rows(
        results, lambda record: places[record.key], board.confirmations, board.cards, solvers, board.suites
    )
    return {
        "README.md": render_readme(rows),
        "index.html": render_page(rows),
        "leaderboard.csv": render_csv(rows),
        "leaderboard.json": render_json(rows),
    }


def build(
    directory: Path,
    planned: Planned | None = None,
    verify: Verify | None = None,
    check_solvers: CheckSolvers | None = None,
) -> list[Path]:
    """Write the generated files.

    Args:
        planned: see `render`.
        verify: more checks of the records, see `pdebench_fm.leaderboard.audit.refusals`.
        check_solvers: checks of the solver records.
    """
    board = Board.load(directory)
    if wrong := [*board.wrong(verify), *(check_solvers(board.solvers) if check_solvers else ())]:
        raise RefusedError("nothing built", wrong)
    texts = {directory / name: text for name, text in render(board, planned).items()}
    write_files({path: text.encode("utf-8") for path, text in texts.items()})
    return list(texts)


def check(
    directory: Path,
    planned: Planned | None = None,
    verify: Verify | None = None,
    check_solvers: CheckSolvers | None = None,
) -> list[str]:
    """Check all records and rebuild in memory. Returns what is wrong, one line each."""
    try:
        board = Board.load(directory)
        wrong = board.wrong(verify)
    except RecordError as error:
        return [str(error)]
    wrong += check_solvers(board.solvers) if check_solvers else ()
    if wrong:
        return wrong
    for name, text in render(board, planned).items():
        file = directory / name
        if not file.is_file():
            wrong.append(f"{file}: missing; run pdefm leaderboard build, or name another --directory")
        elif (line := first_difference(file.read_bytes(), text.encode("utf-8"))) is not None:
            wrong.append(f"{file}:{line}: differs from what the records give; run pdefm leaderboard build")
    return wrong
