"""Tables as Markdown: the cells of every task, then the scores of the curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pdebench_fm.records.record import Record
from pdebench_fm.tables.scores import scores_of_curves
from pdebench_fm.tables.table import Summary, Table
from pdebench_fm.tables.wording import escape_markdown, markdown_table

NOTE = (
    "Mean relative L2 error over the test set, median over seeds; in parentheses its 95% interval over seeds (of fewer "
    "than five their range, which says less), or, with one seed, over test examples. – no such cell."
)
"""What the cells of a Markdown table mean."""

Link = Callable[[Sequence[Record]], str]


def to_markdown(tables: Sequence[Table], link: Link | None = None, heading: str = "##") -> str:
    """Return tables as Markdown, intervals included, and after them the scores of the curves.

    Args:
        tables: what `build_table` returned.
        link: address of the records of a cell; no links where it is None.
        heading: what stands before a table's title.
    """
    parts = []
    for table in tables:
        several = len(table.models) > 1
        columns = [*(["model"] if several else []), "arm", *(f"N = {size}" for size in table.sizes)]
        rows = []
        for row in table.rows:
            names = [row.model, row.protocol] if several else [row.protocol]
            cells = [_markdown_cell(row.cells.get(size), link) for size in table.sizes]
            rows.append([*map(escape_markdown, names), *cells])
        body = markdown_table(columns, rows, left=2 if several else 1)
        parts.append(f"{heading} {escape_markdown(table.title)}\n\n{escape_markdown(table.header)}\n\n{body}\n")
    return "\n".join([*parts, NOTE + "\n", *scores_of_curves(tables, heading)])


def _markdown_cell(cell: Summary | None, link: Link | None) -> str:
    if cell is None:
        return "–"
    text = escape_markdown(cell.text())
    return f"[{text}]({link(cell.records)})" if link is not None and cell.records else text
