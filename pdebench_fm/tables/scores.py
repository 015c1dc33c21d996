"""What follows from the curves, as Markdown: data savings, transfer gain, examples needed, power laws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pdebench_fm.records.curves import SCRATCH, Curve, family, make_curves, on_shared_seeds, transfer_curves
from pdebench_fm.records.record import Record
from pdebench_fm.records.savings import (
    Amount,
    PowerLaw,
    Saving,
    fit_curve,
    fit_power_law,
    needed,
    savings,
    transfer_gains,
)
from pdebench_fm.tables.table import Table
from pdebench_fm.tables.wording import arm_order, escape_markdown, markdown_table, natural, number

TARGETS = (0.1, 0.01)
"""Errors for which the examples needed are stated; the second is the one the paper names (its Fig. 3)."""

BUDGETS = (100, 1000)
"""Budgets of examples at which errors are stated, whatever N a suite tried."""

_EMPTY = "–"
_NO_SEED = "no seed in common"


def scores_of_curves(tables: Sequence[Table], heading: str) -> list[str]:
    """Return the sections that follow the tables of a suite, one list entry each; none where there are no curves.

    Args:
        tables: what `build_table` returned, of any number of suites.
        heading: what stands before a section's title.
    """
    groups: dict[tuple[str, int, str], list[Table]] = {}
    for table in tables:
        if table.kind == "point":
            groups.setdefault((table.suite, table.suite_version, table.profile), []).append(table)
    parts: list[str] = []
    for (suite, version, profile), group in groups.items():
        place = f", {escape_markdown(suite)} v{version}, profile {escape_markdown(profile)}" if len(groups) > 1 else ""
        for title, text, body in _sections(group):
            parts.append(f"{heading} {title}{place}\n\n{text}\n\n{body}\n")
    return parts


def _sections(tables: Sequence[Table]) -> Iterator[tuple[str, str, str]]:
    """Yield (title, what it means, table) of one suite, version and profile."""
    records = [r for table in tables for row in table.rows for cell in row.cells.values() for r in cell.records]
    curves = make_curves(records)
    models = sorted({model for model, _, _ in curves}, key=natural)
    named = len(models) > 1
    places = [(table.task, model) for table in tables for model in models]
    of_place = {place: {arm: c for (m, t, arm), c in curves.items() if (t, m) == place} for place in places}
    names = ["task", *(["model"] if named else []), "arm"]
    sizes = sorted({point.examples for curve in curves.values() for point in curve.points})
    if rows := list(_saving_rows(of_place, sizes, named)):
        yield (
            "Data savings",
            "How many examples a training from scratch needs for the error that N examples give after pre-training "
            "(N = 0: zero-shot; log-log interpolation). > more than the largest N tried; ≤ the smallest N tried does "
            "it; in parentheses the 95% interval over seeds, where there are several and they differ.",
            markdown_table([*names, *(f"N = {size}" for size in sizes)], rows, left=len(names)),
        )
    trained = [size for size in sizes if size > 0]
    if rows := list(_gain_rows(of_place, trained, named)):
        yield (
            "Transfer gain",
            "Error from scratch divided by the error after pre-training, at the same N, and the geometric mean over N "
            "(in parentheses its 95% interval over seeds).",
            markdown_table([*names, *(f"N = {size}" for size in trained), "mean"], rows, left=len(names)),
        )
    if rows := list(_law_rows(of_place, named)):
        columns = [
            *names,
            "exponent b",
            "R²",
            *(f"N for error {target:g}" for target in TARGETS),
            *(f"error at N = {budget}" for budget in BUDGETS),
        ]
        yield (
            "Error against N",
            "The fit error = a · N^−b over N ≥ 1, b with its standard error; the N at which an error is reached, and "
            "the error at a budget of N, both log-log interpolated between what was tried. A curve need not be a power "
            "law: see R² and the figures.",
            markdown_table(columns, rows, left=len(names)),
        )
    if rows := list(_spread_rows(of_place, named)):
        yield (
            "Spread over seeds",
            "Median error, lowest and highest, and how far the quartiles are apart, relative to the median, where "
            "there are several seeds. Quartiles are errors of seeds, not interpolated.",
            markdown_table(
                [*names, "N", "seeds", "median", "lowest", "highest", "quartiles apart"], rows, left=len(names)
            ),
        )
    if rows := list(_family_rows(tables, records, sizes)):
        yield (
            "Error against parameters",
            "The fit error = a · parameters^−b over the models of a family, at each N: b with its standard error, and "
            "R².",
            markdown_table(["task", "family", "arm", *(f"N = {size}" for size in sizes)], rows, left=3),
        )


_Places = Mapping[tuple[str, str], Mapping[str, Curve]]


def _pairs(places: _Places, named: bool) -> Iterator[tuple[list[str], Curve, Curve]]:
    """Yield (names of the row, pre-trained arm, scratch arm) of all places that have both."""
    for (task, model), curves in places.items():
        scratch = curves.get(SCRATCH)
        if scratch is None:
            continue
        for curve in transfer_curves(curves):
            yield [task, *([model] if named else []), curve.protocol], curve, scratch


def _saving_rows(places: _Places, sizes: Sequence[int], named: bool) -> Iterator[list[str]]:
    for names, curve, scratch in _pairs(places, named):
        at = {saving.examples: saving for saving in savings(curve, scratch)}
        if at:
            yield [*map(escape_markdown, names), *(_saving(at.get(size)) for size in sizes)]
        elif _share_no_seed(curve, scratch):
            yield [*map(escape_markdown, names), _NO_SEED, *[_EMPTY] * (len(sizes) - 1)]


def _share_no_seed(curve: Curve, scratch: Curve) -> bool:
    """Whether two arms that have points cannot be compared, since no seed is at all of these."""
    return bool(curve.points and scratch.trained and not on_shared_seeds(curve, scratch)[1].trained)


def _saving(saving: Saving | None) -> str:
    if saving is None:
        return _EMPTY
    matched = _amount(saving.matched)
    low, high = map(_amount, saving.interval or (saving.matched, saving.matched))
    return matched if low == high == matched else f"{matched} ({low} – {high})"


def _amount(amount: Amount | None) -> str:
    return _EMPTY if amount is None else escape_markdown(str(amount))


def _gain_rows(places: _Places, sizes: Sequence[int], named: bool) -> Iterator[list[str]]:
    for names, curve, scratch in _pairs(places, named):
        gains = transfer_gains(curve, scratch)
        if not any(size > 0 for size in gains.at):
            if curve.trained and _share_no_seed(curve, scratch):
                yield [*map(escape_markdown, names), _NO_SEED, *[_EMPTY] * len(sizes)]
            continue
        mean = _EMPTY if gains.mean is None else f"{number(gains.mean)} ×"
        if gains.interval is not None:
            mean += f" ({number(gains.interval[0])}–{number(gains.interval[1])})"
        cells = [f"{number(gains.at[size])} ×" if size in gains.at else _EMPTY for size in sizes]
        yield [*map(escape_markdown, names), *cells, mean]


def _law_rows(places: _Places, named: bool) -> Iterator[list[str]]:
    for (task, model), curves in places.items():
        for protocol in sorted(curves, key=arm_order):
            curve = curves[protocol]
            if len(curve.trained) >= 3:  # two sizes are no curve
                names = [task, *([model] if named else []), protocol]
                amounts = [_amount(needed(curve, target)) for target in TARGETS]
                errors = [_EMPTY if (error := curve.error_at(n)) is None else _error(error) for n in BUDGETS]
                yield [*map(escape_markdown, names), *_law(fit_curve(curve)), *amounts, *errors]


def _spread_rows(places: _Places, named: bool) -> Iterator[list[str]]:
    for (task, model), curves in places.items():
        for protocol in sorted(curves, key=arm_order):
            for point in curves[protocol].points:
                if len(point.errors) > 1:
                    first, third = point.quartiles
                    extent = [_error(value) for value in (point.median, min(point.errors), max(point.errors))]
                    known = math.isfinite(third) and point.median > 0  # a seed that diverged has an infinite error
                    apart = f"{(third - first) / point.median:.1%}" if known else _EMPTY
                    names = [task, *([model] if named else []), protocol]
                    yield [*map(escape_markdown, names), str(point.examples), str(len(point.errors)), *extent, apart]


def _error(value: float) -> str:
    return number(value) if math.isfinite(value) else "diverged"


def _law(law: PowerLaw | None) -> list[str]:
    return [_EMPTY, _EMPTY] if law is None else [f"{law.b:.2f} ± {law.b_error:.2f}", f"{law.r_squared:.2f}"]


def _family_rows(tables: Sequence[Table], records: Sequence[Record], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Yield a row for each family with at least three sizes of model that have a score."""
    members: dict[str, set[str]] = {}
    for record in records:
        members.setdefault(family(record), set()).add(record.model)
    curves = make_curves(records)
    counts = {(r.task, r.protocol, r.model): r.parameters for r in records if r.parameters is not None}
    for table in tables:
        for kind in sorted(members, key=natural):
            for arm in sorted({row.protocol for row in table.rows}, key=arm_order):
                found = [c for m in members[kind] if (c := curves.get((m, table.task, arm))) is not None]
                known = [(counts[key], c) for c in found if (key := (table.task, arm, c.model)) in counts]
                cells = [_family_cell(known, size) for size in sizes]
                if set(cells) != {_EMPTY}:
                    yield [*map(escape_markdown, (table.task, kind, arm)), *cells]


def _family_cell(known: Iterable[tuple[int, Curve]], size: int) -> str:
    points = [(count, point.median) for count, curve in known if (point := curve.point(size)) is not None]
    b, r_squared = _law(fit_power_law([count for count, _ in points], [error for _, error in points]))
    return b if b == _EMPTY else f"{b}, R² {r_squared}"
