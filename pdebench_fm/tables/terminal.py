"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pdebench_fm.tables.table import Table

if TYPE_CHECKING:
    from rich.console import Group


def to_rich(tables: Sequence[Table]) -> list[Group]:
    """Return tables for a terminal: medians and words alone, so that they fit its width."""
    from rich.console import Group
    from rich.table import Table as Rich
    from rich.text import Text

    drawn = []
    for table in tables:
        title = Text.assemble((table.title, "bold"), "\n", (table.header, "dim"))
        rich = Rich()
        several = len(table.models) > 1
        for name in (["model"] if several else []) + ["arm"]:
            rich.add_column(name)
        for size in table.sizes:
            rich.add_column(f"N={size}", justify="right")
        for row in table.rows:
            names = [row.model, row.protocol] if several else [row.protocol]
            texts = [cell.text(detailed=False) if (cell := row.cells.get(size)) else "–" for size in table.sizes]
            rich.add_row(*(Text(text) for text in [*names, *texts]))  # Text, so that names are never read as markup
        drawn.append(Group(title, rich, ""))  # a title of the table itself would be wrapped to its width
    return drawn
