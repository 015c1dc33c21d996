"""The columns of the page: names, definitions, and how numbers are written.

A new column is a line here and a key of the rows that `Cells` or `ranking_row` makes. A number ``x`` with
the keys ``x_low`` and ``x_high`` beside it is shown with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pdebench_fm._util.text import duration
from pdebench_fm.tables.wording import number

Form = Literal["text", "count", "large", "number", "factor", "percent", "share", "seconds", "flag"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        definition: one or two sentences, shown on hover and in the list of definitions.
        form: how values are written. A ``share`` has its numerator in the key and its denominator in ``<key>_of``.
        better: which end is shaded as good; empty for no shading.
        shown: whether the table has the column before a reader chooses.
    """

    key: str
    label: str
    definition: str
    form: Form = "text"
    better: Literal["", "low", "high"] = ""
    shown: bool = True


_PREDICTION = (
    Column(
        "flops",
        "Flops",
        "Floating-point operations of the prediction of one example; elementwise ones are left out.",
        "large",
        "low",
        shown=False,
    ),
    Column(
        "inference_seconds",
        "Prediction",
        "Time to predict one example, in a batch: the median over tasks, N and seeds. The next column says where.",
        "seconds",
        "low",
        shown=False,
    ),
    Column("inference_on", "Predicted on", "Device, threads and batch of the time of a prediction.", shown=False),
    Column(
        "memory",
        "Memory",
        "Bytes. On a GPU, the most that was allocated while a batch was predicted. On a CPU, the most that the process "
        "has had, training included.",
        "large",
        "low",
        shown=False,
    ),
)

RANKING = (
    Column(
        "rank",
        "Rank",
        "By score, among models with a score in every cell that the suite plans, with the ranks that models which "
        "cannot be told apart leave open. A preview has one seed.",
        "count",
    ),
    Column(
        "verified",
        "Verified",
        "Records computed again by pdefm leaderboard verify: scored again from kept weights, or retrained from "
        "nothing. Claimed results are not ranked beside verified ones.",
    ),
    Column(
        "confirmed",
        "Confirmed by",
        "Second measurements that agree on every result, or how many results they agree on. Apart are those beyond 3%, "
        "or 1e-5 if there is no training. The first measurement ranks.",
    ),
    Column("model", "Model", "Follow the link for all results of a model."),
    Column(
        "kind",
        "Kind",
        "network: trained by gradient steps. released: arrives trained. baseline: takes no gradient steps.",
        shown=False,
    ),
    Column(
        "score",
        "Score",
        "Geometric mean of the relative L2 error over all tasks, sizes N and the arms zero-shot and fine-tune. A cell "
        "is the median over seeds. Smaller is better. The 95% interval is a bootstrap over tasks, seeds and test "
        "examples.",
        "number",
        "low",
    ),
    Column(
        "groups",
        "Groups",
        "Ranked models that share a letter cannot be told apart: the 95% interval of the ratio of their scores has 1.",
    ),
    Column(
        "selected",
        "Score of selection",
        "The same mean over the cells that the filters leave. It does not rank.",
        "number",
    ),
    Column(
        "gain",
        "Gain over own scratch",
        "Geometric mean over tasks and N ≥ 1 of the error of the model's own scratch arm, divided by the error after "
        "fine-tuning. Above 1, the pre-training pays.",
        "factor",
        "high",
    ),
    Column(
        "gain_best_scratch",
        "Over best scratch",
        "The same gain over the best scratch arm of any ranked model in the same cell, chosen by validation error.",
        "factor",
        "high",
    ),
    Column(
        "gain_baseline",
        "Over baseline",
        "The same gain over the best model that takes no gradient steps, chosen by validation error.",
        "factor",
        "high",
    ),
    Column(
        "hurts",
        "Hurts",
        "Tasks and N at which fine-tuning is worse than the model's own scratch arm, with the intervals apart.",
        "share",
        "low",
    ),
    Column(
        "saving",
        "Data saving",
        "How many times more examples training from scratch needs for the error that N fine-tuning examples give "
        "(geometric mean). Bounds count as their number.",
        "factor",
        "high",
    ),
    Column("saving_bounds", "Savings that are bounds", "More than (>), or at most (≤).", shown=False),
    Column(
        "coefficients",
        "Use of coefficients",
        "Rise of the error when test examples exchange their coefficients. Near 0, the model does not use them.",
        "percent",
    ),
    Column(
        "coefficients_unmeasured",
        "Points without this",
        "Scored points whose use of coefficients was not measured.",
        "count",
        shown=False,
    ),
    Column("unused_on", "Coefficients not used on", "Tasks on which the error hardly rises.", shown=False),
    Column(
        "open",
        "Open searches",
        "Points that chose the smallest or largest learning rate tried, so that a better one may lie beyond.",
        "share",
        "low",
    ),
    Column("open_by_arm", "Open searches by arm", "The same for each arm.", shown=False),
    Column("seeds", "Seeds", "Of each fine-tuned cell. One says nothing of how much another would differ.", "count"),
    Column("interval_over", "Intervals over", "What was resampled for score, rank and groups.", shown=False),
    Column("parameters", "Parameters", "Fitted real numbers; the most of any task.", "count"),
    Column(
        "train_seconds",
        "Training",
        "Time behind the score: pre-training and the scored arms, all trials and seeds, on the named device.",
        "seconds",
        "low",
    ),
    Column("scratch_seconds", "Training of other arms", "Training time of the scratch arm.", "seconds", shown=False),
    *_PREDICTION,
    Column("device", "Device", "What the model was trained on.", shown=False),
    Column("openness", "Openness", "Licences of code and weights, as the model card says.", shown=False),
    Column("seen", "Seen before", "Tasks in the training data of its released weights, as the model card says."),
    Column("reason", "Not ranked because", "What is missing for a rank.", shown=False),
)
"""One row for each model of a study, which is a suite, version and profile."""

CELLS = (
    Column("study", "Study", "Suite, version and profile."),
    Column("model", "Model", "Follow the link for all results of a model."),
    Column("kind", "Kind", "network, released or baseline.", shown=False),
    Column("task", "Task", "Downstream distribution; for a pre-training, its source."),
    Column("shift", "Shift", "How far the task is from the pre-training."),
    Column(
        "overlap", "Overlap", "Of the coefficients in pre-training and test examples, 0 to 1.", "number", shown=False
    ),
    Column("system", "System", "The differential equation.", shown=False),
    Column("arm", "Arm", "zero-shot, fine-tune, scratch, an arm of a plugin, or the pre-training itself."),
    Column("n", "N", "Downstream training examples.", "count"),
    Column(
        "error",
        "Error",
        "Mean relative L2 error over the test set, median over seeds, with its 95% interval over "
        "seeds, or over test examples if there is one seed. Follow the link for trials and records.",
        "number",
        "low",
    ),
    Column(
        "gain",
        "Gain over own scratch",
        "Error of the model's own scratch arm at this N, divided by this error.",
        "factor",
        "high",
    ),
    Column(
        "gain_best_scratch",
        "Over best scratch",
        "The same over the best scratch arm of any ranked model, chosen by validation error.",
        "factor",
        "high",
    ),
    Column(
        "saving",
        "Data saving",
        "How many times more examples training from scratch needs for this error; > and ≤ are bounds.",
        "factor",
        "high",
        shown=False,
    ),
    Column("hurts", "Hurts", "Worse than the model's own scratch arm, with the intervals apart.", "flag"),
    Column(
        "seen",
        "Seen before",
        "The task is in the training data of the model's released weights, as the model card says.",
        "flag",
        shown=False,
    ),
    Column("confirmed", "Confirmed by", "Second measurements within the spread; apart are those beyond.", shown=False),
    Column(
        "search",
        "Search",
        "closed: rates on both sides of the chosen one were tried. open: it was the smallest (↓) or largest (↑) tried.",
    ),
    Column("learning_rate", "Learning rate", "Of the chosen trial.", "number", shown=False),
    Column("seeds", "Seeds", "How many, of how many planned.", "share", shown=False),
    Column("trials", "Trials", "Fits that were tried, over all seeds.", "count", shown=False),
    Column("parameters", "Parameters", "Fitted real numbers.", "count", shown=False),
    Column("train_seconds", "Training", "All trials and seeds, without the pre-training.", "seconds", "low"),
    *_PREDICTION,
    Column("coefficients", "Use of coefficients", "As in the ranking.", "percent", shown=False),
    Column("status", "Status", "ok, diverged, failed or unsupported.", shown=False),
)
"""One row for each model, task, arm and N of a study."""

SOLVERS = (
    Column("solver", "Solver", "A numerical solver. It uses the equation, so it is not ranked."),
    Column("task", "Task", "Whose test examples it solved."),
    Column(
        "error",
        "Error",
        "Mean relative L2 error against the reference solutions, with its 95% interval.",
        "number",
        "low",
    ),
    Column(
        "inference_seconds", "Time", "To solve one example, measured as predictions of models are.", "seconds", "low"
    ),
    Column("inference_on", "Measured on", "Device, threads and batch."),
    Column("test_examples", "Examples", "The first ones of the test set, which were solved.", "count", shown=False),
)
"""One row for each solver and task of a study."""

FILTERS = (
    ("suite", "Suite"),
    ("profile", "Profile"),
    ("shift", "Shift"),
    ("system", "System"),
    ("n", "N"),
    ("arm", "Arm"),
    ("model", "Model"),
    ("size", "Model size"),
    ("kind", "Kind"),
    ("tier", "Verified"),
    ("search", "Search"),
    ("hurts", "Hurts"),
)
"""Keys of the rows that can be filtered, and their labels."""


def written(column: Column, row: Mapping[str, Any]) -> str:
    """Return a cell as text, with its interval if the row has one; the page's scripts write theirs alike."""
    value, key = row.get(column.key), column.key
    if value is None or value == "":
        return "–"
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    ends = "" if low is None or low == high else f" ({_written(column, low)}–{_written(column, high)})"
    if column.form == "share":
        return f"{value} of {row[f'{key}_of']}"
    return _written(column, value) + ends


def _written(column: Column, value: Any) -> str:
    match column.form:
        case "count":
            return f"{value:,}"
        case "large":
            return _large(value)
        case "number":
            return number(value)
        case "factor":
            return f"{number(value)} ×"
        case "percent":
            return f"{value:+,.0%}"
        case "seconds":
            return f"{1e3 * value:.2g} ms" if value < 0.95 else duration(value)
        case "flag":
            return "yes" if value else "no"
    return str(value)


def _large(value: float) -> str:
    size, prefix = next(((size, prefix) for size, prefix in _PREFIXES if value >= size), (1, ""))
    return f"{value / size:.3g} {prefix}".rstrip()


_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
