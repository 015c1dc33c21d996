"""What a run ends with: one table of pre-trainings, one of tasks, and what was shown in a sentence or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pdebench_fm._util.grouping import grouped
from pdebench_fm._util.text import counted, printable
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.answers import Answer, answers, sentences
from pdebench_fm.records.curves import FINE_TUNE, ZERO_SHOT
from pdebench_fm.records.record import Cell, Record
from pdebench_fm.records.savings import MeanFactor
from pdebench_fm.tables.table import Table, build_table, cell_text
from pdebench_fm.tables.wording import arm_order, describe_overlap, mean_gain, number

UNLIMITED = 10_000
"""Columns of a text that is cut nowhere."""

_NARROWEST = 10
"""Columns of a label that is folded, at least."""

_NOTE = (
    "Median {} over seeds against N; zero-shot is N = 0. Gain: scratch error / error at the same N, "
    "mean over N. Data saving: scratch examples for the same error / N. Score: mean error of zero-shot and "
    "fine-tuning. Means are geometric."
)
_OVERLAP = " After the shift: overlap of pre-training and downstream physics, 0 to 1."


@dataclass(frozen=True)
class TextGrid:
    """A table as text.

    Args:
        rows: cells, as many as columns.
        labels: how many of the first columns name the row.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    labels: int

    def text(self, width: int) -> str:
        """Return aligned lines, at most ``width`` wide.

        Columns that do not fit follow in further blocks, with the labels again. Cells that are too long are folded.
        """
        lines = [[printable(cell, 1000) for cell in line] for line in (self.columns, *self.rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        names = list(range(self.labels))
        self._shrink(lines, widths, width)
        blocks: list[list[int]] = [[]]
        for column in range(self.labels, len(widths)):
            if blocks[-1] and sum(widths[index] + 2 for index in (*names, *blocks[-1], column)) - 2 > width:
                blocks.append([])
            blocks[-1].append(column)

        def padded(cell: str, column: int) -> str:
            space = " " * (widths[column] - cell_len(cell))
            return cell + space if column < self.labels else space + cell

        drawn = []
        for block in blocks:
            shown = [*names, *block]
            told = [line for line in lines if any(line[index] for index in block) or any(line[: self.labels - 1])]
            head, *body = (
                "\n".join(
                    "  ".join(padded(cell, index) for cell, index in zip(cells, shown, strict=True)).rstrip()
                    for cells in zip_longest(*(_folded(line[index], widths[index]) for index in shown), fillvalue="")
                )
                for line in told
            )
            rule = "─" * min(width, sum(widths[index] + 2 for index in shown) - 2)
            drawn.append("\n".join([head, rule, *body]))
        return "\n\n".join(drawn)

    def _shrink(self, lines: Sequence[Sequence[str]], widths: list[int], width: int) -> None:
        """Narrow columns until the labels and any other column fit: first between words, then labels within them."""
        words = [
            max(cell_len(word) for cell in column for word in ("", *cell.split()))
            for column in zip(*lines, strict=True)
        ]
        cut = [min(word, _NARROWEST) if index < self.labels else word for index, word in enumerate(words)]
        for floors in (words, cut):
            while (
                sum(size + 2 for size in widths[: self.labels]) + (most := max(widths[self.labels :], default=0))
                > width
            ):
                wide = [
                    index
                    for index, size in enumerate(widths)
                    if size > floors[index] and (index < self.labels or size == most)
                ]
                if not wide:
                    break
                widths[max(wide, key=widths.__getitem__)] -= 1

    def html(self) -> str:
        """Return a table of HTML."""

        def line(tag: str, cells: Sequence[str]) -> str:
            sides = ["left" if index < self.labels else "right" for index in range(len(cells))]
            inner = (
                f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
                for side, cell in zip(sides, cells, strict=True)
            )
            return f"<tr>{''.join(inner)}</tr>"

        body = "".join(line("td", row) for row in self.rows)
        return f"<table><thead>{line('th', self.columns)}</thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Summary:
    """The results of one suite, version and profile.

    Args:
        header: suite, version, profile, and the models with their sizes.
        pretrainings: a row for each; None if there are none.
        tasks: a row for each task, model and arm; None if there are none.
        answers: a row for each task and model, without the errors; None if nothing was compared.
        shown: what was shown, one sentence or more for each model, and what to know before believing it.
        note: what the columns of ``tasks`` are.
    """

    header: str
    pretrainings: TextGrid | None
    tasks: TextGrid | None
    answers: TextGrid | None
    shown: Sequence[str]
    note: str

    def text(self, width: int = UNLIMITED) -> str:
        """Return all of it as plain text."""
        grids = [grid.text(width) for grid in (self.pretrainings, self.tasks) if grid is not None]
        note = [_wrapped(self.note, width)] if self.tasks is not None else []
        return "\n\n".join([_wrapped(self.header, width), *grids, *note, *(_wrapped(s, width) for s in self.shown)])

    def brief(self, width: int = 100) -> str:
        """Return the answers and what was shown, without errors."""
        grids = [] if self.answers is None else [self.answers.text(width)]
        return "\n".join([_wrapped(self.header, width), *grids, *(_wrapped(s, width) for s in self.shown)])

    def html(self) -> str:
        """Return all of it as HTML."""
        grids = [grid.html() for grid in (self.pretrainings, self.tasks) if grid is not None]
        shown = [f"<p>{escape(text)}</p>" for text in self.shown]
        return "".join(
            [f"<p><b>{escape(self.header)}</b></p>", *grids, f"<p><small>{escape(self.note)}</small></p>", *shown]
        )


def summaries(records: Iterable[Record], planned: Collection[Cell] | None = None, metric: str = SCORE) -> list[Summary]:
    """Return a summary for each suite, version and profile.

    Args:
        records: of any models, in the order of the rows. The later of two at the same `Record.place` counts.
        planned: every cell of the suite's plan; by default those of the records.
        metric: what the records show; see `pdebench_fm.records.metrics`.
    """
    records = list(records)
    order = list(dict.fromkeys(record.model for record in records))
    groups: dict[tuple[str, int, str], list[Table]] = {}
    for table in build_table(records, planned):
        first = table.records[0]
        ordered = Table(sorted(table.records, key=lambda r: order.index(r.model)), table.expected, order)
        groups.setdefault((first.suite, first.suite_version, first.profile), []).append(ordered)
    return [_summary(tables, planned, metric) for tables in groups.values()]


def _summary(tables: Sequence[Table], planned: Collection[Cell] | None, metric: str) -> Summary:
    records = [record for table in tables for record in table.records]
    several = len({record.model for record in records}) > 1
    before = [table for table in tables if table.records[0].kind == "pretraining"]
    after = [table for table in tables if table.records[0].kind == "point"]
    found = answers(records, planned)
    seeds = max((len({r.seed for r in table.records}) for table in after), default=0)
    return Summary(
        Table(records, {}, tables[0].order).header,
        _grid(list(_pretraining_rows(before)), ["pre-training"], several) if before else None,
        _grid(list(_task_rows(after, found)), ["task", "shift"], several) if after else None,
        _grid([_answer_row(a) for a in found], ["task"], several) if any(a.scratch for a in found) else None,
        [*(sentences(found, seeds) if found else []), *_caveats(records)],
        _NOTE.format("relative L2 error" if metric == SCORE else metric)
        + (_OVERLAP if any(record.overlap is not None for record in records) else ""),
    )


def _caveats(records: Sequence[Record]) -> Iterator[str]:
    """Yield what to know before the numbers are believed: open searches, results and metrics that are missing."""
    searched = [record for record in records if record.searched is not None]
    searches = [record.searched for record in searched]
    if searches and all(len(record.trials) == 2 for record in searched):
        yield (
            "Each search tried two learning rates, so none can close, and a better one may lie beyond: the profile may "
            "name more `learning_rates`, or `extend` the search."
        )
    elif unfinished := sum(state != "closed" for state in searches):
        yield (
            f"{unfinished} of {len(searches)} searches ended at the smallest or largest learning rate tried "
            "(↓ and ↑ in table.md), and a better one may lie beyond: `extend` in the profile goes on."
        )
    refused = Counter(record.reason for record in records if record.status == "unsupported")
    for reason, count in refused.items():
        yield f"Unsupported: {count} of {counted(len(records), 'result')}: {reason}"
    notes = Counter((name, note) for record in records for name, note in record.notes.items())
    for (name, note), count in notes.items():
        if name.startswith("metric "):
            yield f"{name.capitalize()} in {count} of {counted(len(records), 'result')}: {note}"


def _grid(rows: Sequence[Mapping[str, str]], names: Sequence[str], several: bool) -> TextGrid:
    """Return rows of cells as a table; models are named if there are several, and repeated names left out."""
    labels = [*names, *(["model"] if several else []), *(["arm"] if any("arm" in row for row in rows) else [])]
    others = [name for row in rows for name in row if name not in (*labels, "model")]
    columns = [*labels, *dict.fromkeys(others)]
    cells: list[list[str]] = []
    before: Mapping[str, str] = {}
    for row in rows:
        new = row[names[0]] != before.get(names[0])
        known = {*names} if not new else set()
        if not new and row.get("model") == before.get("model"):
            known.add("model")
        cells.append(["" if name in known else row.get(name, "") for name in columns])
        before = row
    return TextGrid(columns, cells, len(labels))


def _pretraining_rows(tables: Sequence[Table]) -> Iterator[dict[str, str]]:
    for table in tables:
        for record in table.records:
            error = number(record.metrics[SCORE]) if SCORE in record.metrics else record.status
            rate = "–" if record.learning_rate is None else f"{record.learning_rate:g}"
            row = {"pre-training": record.task, "model": record.model}
            yield row | {"examples": f"{record.examples:,}", "learning rate": rate, "error": error}


def _task_rows(tables: Sequence[Table], found: Sequence[Answer]) -> Iterator[dict[str, str]]:
    """Yield a row for each task, model and arm; zero-shot is the N = 0 of fine-tuning."""
    known = {(answer.task, answer.model, answer.arm): answer for answer in found}
    every = sorted(
        {n for table in tables for n in (*(r.examples for r in table.records), *(n for _, n in table.expected))}
    )
    for table in tables:
        arms = {r.protocol for r in table.records} | {arm for arm, _ in table.expected}
        merged = {ZERO_SHOT, FINE_TUNE} <= arms
        cells = grouped(table.records, lambda record: (record.model, record.protocol, record.examples))
        for model in table.models:
            for arm in sorted(arms - ({ZERO_SHOT} if merged else set()), key=arm_order):
                row = {"task": table.task, "shift": describe_overlap(table.records), "model": model, "arm": arm}
                for n in every:
                    of = ZERO_SHOT if merged and arm == FINE_TUNE and n == 0 else arm
                    row[f"N = {n}"] = cell_text(cells.get((model, of, n), []), table.expected.get((of, n), 0), False)
                answer = known.get((table.task, model, arm))
                yield row | (_shown(answer) if answer is not None else {})


def _answer_row(answer: Answer) -> dict[str, str]:
    return {"task": answer.task, "model": answer.model, "arm": answer.arm, **_shown(answer)}


def _shown(answer: Answer) -> dict[str, str]:
    score = "–" if answer.score is None else number(answer.score)
    return {"gain": mean_gain(answer.gains), "data saving": _saving(answer.saving), "score": score}


def _saving(mean: MeanFactor | None) -> str:
    """Return e.g. ``3.4 ×``, ``> 3.4 ×`` if some factors are lower bounds, ``3.4 × (1 >, 1 ≤)`` if bounds are mixed."""
    if mean is None:
        return "–"
    value = f"{number(mean.value)} ×"
    if mean.more and mean.at_most:
        return f"{value} ({mean.more} >, {mean.at_most} ≤)"
    return f"> {value}" if mean.more else f"≤ {value}" if mean.at_most else value


def _folded(cell: str, width: int) -> list[str]:
    """Return a cell in lines, broken at blanks if there are any."""
    if cell_len(cell) <= width:
        return [cell]
    return [line.plain.rstrip() for line in Text(cell).wrap(Console(width=width), width, overflow="fold")]


def _wrapped(text: str, width: int) -> str:
    from textwrap import fill

    return fill(printable(text, UNLIMITED), max(width, 40), break_on_hyphens=False)
