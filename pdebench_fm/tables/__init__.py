"""Tables of scores, made from records alone: cells by task, arm and N, and the scores of the curves they form."""

from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.tables.markdown import to_markdown
from pdebench_fm.tables.table import Row, Summary, Table, build_table
from pdebench_fm.tables.terminal import to_rich
from pdebench_fm.tables.wording import arm_order, describe_parameters, escape_markdown, markdown_table, natural, number

__all__ = [
    "SCORE",
    "Row",
    "Summary",
    "Table",
    "arm_order",
    "build_table",
    "describe_parameters",
    "escape_markdown",
    "markdown_table",
    "natural",
    "number",
    "to_markdown",
    "to_rich",
]
