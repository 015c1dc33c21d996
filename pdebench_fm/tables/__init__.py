"""Tables of scores, made only from records: cells by task, arm and N, and the scores of their curves."""

from pdebench_fm.tables.summary import Summary, summaries
from pdebench_fm.tables.table import Table, build_table, to_markdown
from pdebench_fm.tables.wording import (
    arm_order,
    describe_parameters,
    describe_shift,
    describe_system,
    escape_markdown,
    markdown,
    natural,
    number,
)

__all__ = [
    "Summary",
    "Table",
    "arm_order",
    "build_table",
    "describe_parameters",
    "describe_shift",
    "describe_system",
    "escape_markdown",
    "markdown",
    "natural",
    "number",
    "summaries",
    "to_markdown",
]
