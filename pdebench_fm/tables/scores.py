"""What follows from the curves, as Markdown: data savings, transfer gain, examples needed, power laws."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pdebench_fm._util.grouping import grouped
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
from pdebench_fm.tables.wording import arm_order, escape_markdown, markdown, mean_gain, natural, number

TARGETS = (0.1, 0.01)
"""Errors for which the examples needed are stated. The paper names the second (its Fig. 3)."""

BUDGETS = (100, 1000)
"""Budgets of examples at which errors are stated, whatever N a suite tried."""

_TEXTS = {
    "Data savings": "How many examples training from scratch needs for the error that N examples give after "
    "pre-training (N = 0: zero-shot; log-log interpolation). > more than the largest N tried; ≤ the smallest N tried "
    "is enough; in parentheses the 95% interval over seeds, if there are several and they differ.",
    "Transfer gain": "Error from scratch divided by the error after pre-training, at the same N, and the geometric "
    "mean over N (in parentheses its 95% interval over seeds).",
    "Error against N": "The fit error = a · N^−b over N ≥ 1, b with its standard error; the N at which an error is "
    "reached, and the error at a budget of N, both log-log interpolated between the N tried. A curve need not be a "
    "power law: see R² and the figures.",
    "Spread over seeds": "Median error, lowest and highest, and the distance of the quartiles relative to the median, "
    "if there are several seeds. Quartiles are errors of seeds, not interpolated.",
    "Error against parameters": "The fit error = a · parameters^−b over the models of a family, at each N: b with its "
    "standard error, and R².",
}
_NAMES = ("task", "model", "family", "arm")
_Row = dict[str, str]
_Arms = Mapping[tuple[str, str], Mapping[str, Curve]]


def scores_of_curves(points: Sequence[Record]) -> list[str]:
    """Return the sections that follow the tables, one list entry each; none if there are no curves."""
    groups = grouped(points, lambda record: (record.suite, record.suite_version, record.profile))
    parts: list[str] = []
    for (suite, version, profile), records in groups.items():
        place = f", {escape_markdown(suite)} v{version}, profile {escape_markdown(profile)}" if len(groups) > 1 else ""
        several = len({record.model for record in records}) > 1
        for title, rows in _sections(records).items():
            if rows:
                parts.append(f"## {title}{place}\n\n{_TEXTS[title]}\n\n{_table(rows, several)}\n")
    return parts


def _table(rows: Sequence[_Row], several: bool) -> str:
    """Return rows as a Markdown table, with the models only if there are several."""
    names = [name for name in _NAMES if name in rows[0] and (several or name != "model")]
    shown = [
        {key: escape_markdown(text) if key in names else text for key, text in row.items() if several or key != "model"}
        for row in rows
    ]
    return markdown(shown, left=len(names))


def _sections(records: Sequence[Record]) -> dict[str, list[_Row]]:
    """Return the rows of each section, for one suite, version and profile."""
    curves = make_curves(records)
    sizes = sorted({point.examples for curve in curves.values() for point in curve.points})
    arms: dict[tuple[str, str], dict[str, Curve]] = {}
    for model, task, arm in sorted(curves, key=lambda key: (natural(key[1]), natural(key[0]), arm_order(key[2]))):
        arms.setdefault((task, model), {})[arm] = curves[model, task, arm]
    return {
        "Data savings": list(_saving_rows(arms, sizes)),
        "Transfer gain": list(_gain_rows(arms, [size for size in sizes if size > 0])),
        "Error against N": list(_law_rows(arms)),
        "Spread over seeds": list(_spread_rows(arms)),
        "Error against parameters": list(_family_rows(records, curves, sizes)),
    }


def _pairs(arms: _Arms) -> Iterator[tuple[_Row, Curve, Curve]]:
    """Yield (names of the row, pre-trained arm, scratch arm) of each task and model that has both."""
    for (task, model), curves in arms.items():
        if (scratch := curves.get(SCRATCH)) is not None:
            for curve in transfer_curves(curves):
                yield {"task": task, "model": model, "arm": curve.protocol}, curve, scratch


def _saving_rows(arms: _Arms, sizes: Sequence[int]) -> Iterator[_Row]:
    for names, curve, scratch in _pairs(arms):
        at = {saving.examples: saving for saving in savings(curve, scratch)}
        cells = {f"N = {size}": _saving(at.get(size)) for size in sizes}
        if at:
            yield names | cells
        elif _share_no_seed(curve, scratch):
            yield names | cells | {f"N = {sizes[0]}": "no seed in common"}


def _gain_rows(arms: _Arms, sizes: Sequence[int]) -> Iterator[_Row]:
    for names, curve, scratch in _pairs(arms):
        gains = transfer_gains(curve, scratch)
        cells = {f"N = {size}": f"{number(gains.at[size])} ×" if size in gains.at else "–" for size in sizes}
        if any(size in gains.at for size in sizes):
            yield names | cells | {"mean": mean_gain(gains)}
        elif curve.trained and _share_no_seed(curve, scratch):
            yield names | cells | {f"N = {sizes[0]}": "no seed in common", "mean": "–"}


def _law_rows(arms: _Arms) -> Iterator[_Row]:
    for (task, model), curves in arms.items():
        for arm, curve in curves.items():
            if len(curve.trained) >= 3:  # two points are no curve
                b, r_squared = _law(fit_curve(curve))
                row = {"task": task, "model": model, "arm": arm, "exponent b": b, "R²": r_squared}
                row |= {f"N for error {target:g}": _amount(needed(curve, target)) for target in TARGETS}
                yield row | {f"error at N = {budget}": _error(curve.error_at(budget)) for budget in BUDGETS}


def _spread_rows(arms: _Arms) -> Iterator[_Row]:
    for (task, model), curves in arms.items():
        for arm, point in ((arm, point) for arm, curve in curves.items() for point in curve.points):
            if len(point.errors) > 1:
                first, third = point.quartiles
                known = math.isfinite(third) and point.median > 0  # a diverged seed has an infinite error
                yield {
                    "task": task,
                    "model": model,
                    "arm": arm,
                    "N": str(point.examples),
                    "seeds": str(len(point.errors)),
                    "median": _error(point.median),
                    "lowest": _error(min(point.errors)),
                    "highest": _error(max(point.errors)),
                    "quartiles apart": f"{(third - first) / point.median:.1%}" if known else "–",
                }


def _family_rows(
    records: Sequence[Record], curves: Mapping[tuple[str, str, str], Curve], sizes: Sequence[int]
) -> Iterator[_Row]:
    """Yield a row for each family with scores of at least three sizes of model."""
    counts = {(r.model, r.task, r.protocol): r.parameters for r in records if r.parameters is not None}
    members: dict[tuple[str, str, str], list[tuple[int, Curve]]] = {}
    for key, of_model in {(record.model, record.task, record.protocol): family(record) for record in records}.items():
        members.setdefault((key[1], of_model, key[2]), []).extend([(counts[key], curves[key])] if key in counts else [])
    for task, name, arm in sorted(members, key=lambda key: (natural(key[0]), natural(key[1]), arm_order(key[2]))):
        cells = {}
        for size in sizes:
            points = [(count, p.median) for count, c in members[task, name, arm] if (p := c.point(size)) is not None]
            b, r_squared = _law(fit_power_law([count for count, _ in points], [error for _, error in points]))
            cells[f"N = {size}"] = b if b == "–" else f"{b}, R² {r_squared}"
        if set(cells.values()) != {"–"}:
            yield {"task": task, "family": name, "arm": arm} | cells


def _share_no_seed(curve: Curve, scratch: Curve) -> bool:
    """Whether two arms cannot be compared, because all of their points have no seed in common."""
    return bool(curve.points and scratch.trained and not on_shared_seeds(curve, scratch)[1].trained)


def _saving(saving: Saving | None) -> str:
    if saving is None:
        return "–"
    matched = _amount(saving.matched)
    low, high = map(_amount, saving.interval or (saving.matched, saving.matched))
    return matched if low == high == matched else f"{matched} ({low} – {high})"


def _amount(amount: Amount | None) -> str:
    return "–" if amount is None else escape_markdown(str(amount))


def _error(value: float | None) -> str:
    if value is None:
        return "–"
    return number(value) if math.isfinite(value) else "diverged"


def _law(law: PowerLaw | None) -> tuple[str, str]:
    return ("–", "–") if law is None else (f"{law.b:.2f} ± {law.b_error:.2f}", f"{law.r_squared:.2f}")
