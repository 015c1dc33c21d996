"""The page of a leaderboard, ``index.html``, and the same rows for programs: ``leaderboard.json``, ``leaderboard.csv``.

The page holds its data, styles and scripts, so that it opens from a file and asks no network for anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from pdebench_fm.leaderboard.board import Board
from pdebench_fm.leaderboard.cards import rows as card_rows
from pdebench_fm.leaderboard.evidence import errors_of
from pdebench_fm.leaderboard.page.cells import Cells
from pdebench_fm.leaderboard.page.columns import CELLS, FILTERS, RANKING, SOLVERS
from pdebench_fm.leaderboard.page.rows import Row, ranking_row, solver_rows, study_row

FORMAT = 1
"""Version of ``leaderboard.json``. New keys do not change it."""

_LOCATION = ("seed", "job", "file", "line", "error")
_STUDY = ("suite", "version", "profile", "under_trained")
_NOT_IN_CSV = ("study", "wins")
_SCRIPTS = ("data", "state", "table", "charts", "detail", "main")
_LIBRARIES = ("d3-7.9.2", "plot-0.6.17", "htm-preact-3.1.1")


def make_rows(board: Board) -> dict[str, list[Row]]:
    """Return all rows: studies, rankings, cells with their records, cards of models, and solvers."""
    results = board.rankings(errors_of(board.stored))
    # The newest version of a suite comes first.
    newest = {(found.suite, found.profile): found.suite_version for found, _ in reversed(results)}
    solvers = [record for _, record in board.solvers]
    return {
        "studies": [
            study_row(found, newest[found.suite, found.profile], (found.suite, found.suite_version) in board.suites)
            for found, _ in results
        ],
        "ranking": [ranking_row(found, standing, board.cards) for found, ranking in results for standing in ranking],
        "cells": [row for found, ranking in results for row in Cells(found, ranking, board).rows()],
        "cards": card_rows(board.cards),
        "solvers": [row for found, _ in results for row in solver_rows(found, solvers)],
    }


def render_json(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return ``leaderboard.json``, one row a line. A record has its place there; all else is in its file."""

    def line(row: Row) -> str:
        records = [{key: record[key] for key in _LOCATION} for record in row.get("records", ())]
        return json.dumps({**row, "records": records} if records else row, ensure_ascii=False)

    tables = [f"{json.dumps(name)}: [\n" + ",\n".join(map(line, table)) + "\n]" for name, table in rows.items()]
    return f'{{"format": {FORMAT},\n' + ",\n".join(tables) + "}\n"


def render_csv(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return ``leaderboard.csv``: the ranking without pairwise wins, and suite, version and profile in front."""
    from pandas import DataFrame

    studies = {study["study"]: {key: study[key] for key in _STUDY} for study in rows["studies"]}
    lines = [
        {key: _no_formula(value) for key, value in {**studies[row["study"]], **row}.items() if key not in _NOT_IN_CSV}
        for row in rows["ranking"]
    ]
    return DataFrame(lines, dtype=object).to_csv(index=False, lineterminator="\n")


def _no_formula(value: object) -> object:
    """Return a cell that a spreadsheet cannot take for a formula, as the page's own CSV has it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def render_page(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return ``index.html``."""
    data = {
        "columns": {
            name: [asdict(column) for column in columns]
            for name, columns in (("ranking", RANKING), ("cells", CELLS), ("solvers", SOLVERS))
        },
        "filters": FILTERS,
        "tables": {name: pack(table) for name, table in rows.items()},
    }
    # A script element ends at the first "</script", wherever it stands.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", r"\u003c")
    parts = {
        "style": _asset("page.css"),
        "licences": _asset("vendor/LICENCES.txt"),
        "libraries": "".join(f"<script>\n{_asset(f'vendor/{name}.min.js')}</script>\n" for name in _LIBRARIES),
        "data": text,
        "script": "\n".join(_asset(f"{name}.js") for name in _SCRIPTS),
    }
    page = _asset("index.html")
    for name, part in parts.items():
        before, after = page.split(f"<!-- {name} -->")
        page = before + part + after
    return page


def pack(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows as columns, which take a third of the bytes.

    A column is a list of values, or their indices ``at`` in a list of different ``values``. Rows within rows are packed
    into one table, ``rows``, and ``counts`` says how many each row has.
    """
    columns: dict[str, Any] = {}
    for key in {key: None for row in rows for key in row}:
        values = [row.get(key) for row in rows]
        nested = [value for value in values if isinstance(value, list)]
        if nested:
            inner = [row for value in nested for row in value]
            columns[key] = {"counts": [len(value or ()) for value in values], "rows": pack(inner)}
            continue
        texts = [json.dumps(value) for value in values]
        numbers = {text: index for index, text in enumerate(dict.fromkeys(texts))}
        if 2 * len(numbers) <= len(values):
            columns[key] = {"values": [json.loads(text) for text in numbers], "at": [numbers[text] for text in texts]}
        else:
            columns[key] = values
    return {"count": len(rows), "columns": columns}


def _asset(name: str) -> str:
    return files(__name__).joinpath("assets", name).read_text(encoding="utf-8")
