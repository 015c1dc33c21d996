"""Measure how often the leaderboard's 95% intervals hold the truth, in simulated studies whose truth is known.

    python benchmarks/coverage.py [--repetitions 1000] [--workers 2] [--json]     # about 10 minutes

Each repetition draws a study of three models from a population: tasks with one cell each, seeds and test examples.
Two models are equally good and the third is worse by exp(0.5). The intervals come from
`pdebench_fm.leaderboard.intervals`, as on the board.

log error of an example = model + task + (model, task) + (model, seed) + fit + log(difficulty × own noise)

The difficulty of a test example is shared by all models. With heavy tails it is a Pareto variable of index 2.5, whose
third moment is infinite; else it is log-normal. Standard deviations are those of the lite records.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from report import save

from pdebench_fm.leaderboard.intervals import Cells, SeedScore, compare, draw_scores, rank_ranges

MODELS = np.array([0.0, 0.0, 0.5])
"""Logarithms of the true scores."""
TASK, MODEL_TASK, MODEL_SEED, FIT = 1.2, 0.35, 0.02, 0.05
"""Standard deviations of log error between tasks, models on a task, seeds of a model, and single fits."""
SHARED, OWN = 0.5, 0.3
"""Of the log errors of test examples, in common and of each fit."""
PARETO = 2.5
FIGURE = Path(__file__).parents[1] / "docs" / "images" / "intervals-coverage.png"

Setting = tuple[int, int, int, str]
"""Tasks, seeds, test examples, tails."""

QUESTIONS = ("score", "score, not widened", "difference, equal", "difference, unequal", "ranks")


def settings() -> list[Setting]:
    """Return what is simulated; two tasks are too few to speak of others."""
    wide = itertools.product((4, 10), (5, 3, 1), (1024, 256), ("light", "heavy"))
    return [*wide, *itertools.product((2,), (5, 3, 1), (1024,), ("light", "heavy"))]


def study(setting: Setting, rng: np.random.Generator) -> tuple[dict[str, dict[str, Cells]], np.ndarray]:
    """Draw a study; return its points, and the logarithms of the true scores.

    With fewer than three tasks, the truth is that of these tasks.
    """
    tasks, seeds, examples, tails = setting
    of_task = rng.normal(0, TASK, tasks) + rng.normal(0, MODEL_TASK, (len(MODELS), tasks))
    of_seed = rng.normal(0, MODEL_SEED, (len(MODELS), seeds))
    tests: dict[str, dict[str, Cells]] = {}
    for t in range(tasks):
        if tails == "heavy":
            shared = (1 + rng.pareto(PARETO, examples)) * (PARETO - 1) / PARETO
        else:
            shared = np.exp(rng.normal(-(SHARED**2) / 2, SHARED, examples))
        own = np.exp(rng.normal(-(OWN**2) / 2, OWN, (len(MODELS), seeds, examples)))
        fits = rng.normal(0, FIT, (len(MODELS), seeds))
        errors = np.exp((MODELS + of_task[:, t])[:, None] + of_seed + fits)[..., None] * shared * own
        tests[str(t)] = {str(m): [[SeedScore(float(x.mean()), x) for x in cell]] for m, cell in enumerate(errors)}
    return tests, MODELS + (of_task.mean(axis=1) if tasks < 3 else 0.0)


def repeat(setting: Setting, repetitions: int) -> dict[str, Any]:
    """Return the coverage of each question, and the median width of the score's interval as a factor."""
    rng = np.random.default_rng([setting[0], setting[1], setting[2], setting[3] == "heavy"])
    held, widths = dict.fromkeys(QUESTIONS, 0), []
    for _ in range(repetitions):
        tests, truth = study(setting, rng)
        draws = draw_scores(tests)

        def covers(drawn: np.ndarray, true: float) -> bool:
            low, high = np.quantile(drawn, (0.025, 0.975))
            return bool(low <= true <= high)

        first = draws.drawn[0]
        held["score"] += covers(first, truth[0])
        held["score, not widened"] += covers(draws.scores[0] + (first - draws.scores[0]) / draws.factor, truth[0])
        held["difference, equal"] += covers(first - draws.drawn[1], truth[0] - truth[1])
        held["difference, unequal"] += covers(first - draws.drawn[2], truth[0] - truth[2])
        best, worst = rank_ranges(compare(draws.drawn))
        below = 1 + (truth[None] < truth[:, None] - 1e-9).sum(axis=1)
        above = (truth[None] <= truth[:, None] + 1e-9).sum(axis=1)
        held["ranks"] += bool(np.all((best <= below) & (worst >= above)))
        widths.append(np.subtract(*np.quantile(first, (0.975, 0.025))))
    shares = {name: count / repetitions for name, count in held.items()}
    tasks, seeds, examples, tails = setting
    named = {"tasks": tasks, "seeds": seeds, "examples": examples, "tails": tails}
    return {**named, **shares, "width": float(np.exp(np.median(widths)))}


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table."""
    header = ["tasks", "seeds", "examples", "tails", *QUESTIONS, "high / low"]
    lines = ["| " + " | ".join(header) + " |", "|" + "--:|" * len(header)]
    for row in rows:
        cells = [str(row[key]) for key in header[:4]] + [f"{row[key]:.1%}" for key in QUESTIONS]
        lines.append("| " + " | ".join([*cells, f"{row['width']:.3g}"]) + " |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw the coverage of every setting, by number of tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    colours = {2: "#8f5fc6", 4: "#e8890c", 10: "#4269d0"}
    axes = figure.subplots()
    axes.axhspan(93, 97, color="0.9", zorder=0)
    axes.axhline(95, color="0.5", linewidth=0.8, zorder=1)
    for at, question in enumerate(QUESTIONS):
        for shift, (tasks, colour) in zip((-0.22, 0, 0.22), colours.items(), strict=True):
            found = [100 * row[question] for row in rows if row["tasks"] == tasks]
            spread = np.linspace(-0.07, 0.07, len(found))
            label = f"{tasks} tasks" if at == 0 else None
            axes.scatter(at + shift + spread, found, s=13, color=colour, alpha=0.8, label=label)
    axes.set_xticks(range(len(QUESTIONS)), [question.replace(", ", ",\n") for question in QUESTIONS])
    axes.set_ylabel("coverage of 95% intervals (%)")
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(FIGURE, dpi=160, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="save the results and the figure")
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.workers) as pool:
        for row in pool.map(repeat, settings(), itertools.repeat(options.repetitions)):
            print(row, file=sys.stderr, flush=True)
            rows.append(row)
    rows.sort(key=lambda row: [row[key] for key in ("tasks", "seeds", "examples")])
    print(table(rows))
    if options.json:
        print(save("coverage", {"repetitions": options.repetitions}, rows))
        draw(rows)


if __name__ == "__main__":
    main()
