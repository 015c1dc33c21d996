"""Print the tables of docs/reproduction.md that are about zero-shot scores and gains, from the committed records.

    python benchmarks/claims.py [--suite ood_sys1 ood_sys2 ood_sys3] [--profile lite] [--seed 0]

Each model is shown with the newest version of the suite in which it was scored on every task. A gain is the error from
scratch over that after fine-tuning, a geometric mean over N. Where the errors of test examples are kept, its 95%
interval is a bootstrap of them: all arms and N of a task are scored on the same drawn examples.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pdebench_fm._util.bootstrap import weights
from pdebench_fm.interfaces.metric import SCORE
from pdebench_fm.records.curves import FINE_TUNE, SCRATCH, ZERO_SHOT
from pdebench_fm.records.errors import load_errors
from pdebench_fm.records.file import collect
from pdebench_fm.records.record import Record
from pdebench_fm.records.savings import geometric_mean

RECORDS = Path(__file__).parents[1] / "leaderboard" / "records"


def newest(path: Path) -> list[Record]:
    """Return the records of points of the newest version of a suite with the most tasks."""
    versions: dict[int, list[Record]] = {}
    for _, record in collect([path]):
        if record.kind == "point" and record.status == "ok":
            versions.setdefault(record.suite_version, []).append(record)
    return max(versions.items(), key=lambda item: (len({record.task for record in item[1]}), item[0]))[1]


def rows(path: Path, seed: int) -> Iterator[list[str]]:
    """Yield a row for each task of a file of records that has a seed."""
    records = [record for record in newest(path) if record.seed == seed or record.protocol == ZERO_SHOT]
    errors = load_errors(path, records)
    for task in dict.fromkeys(record.task for record in records):
        by_arm: dict[str, dict[int, Record]] = {}
        for record in records:
            if record.task == task:
                by_arm.setdefault(record.protocol, {})[record.examples] = record
        tuned, scratch = by_arm.get(FINE_TUNE, {}), by_arm.get(SCRATCH, {})
        sizes = sorted(tuned.keys() & scratch.keys() - {0})
        if not sizes or ZERO_SHOT not in by_arm:
            continue
        pairs = [(scratch[size], tuned[size]) for size in sizes]
        (zero,) = by_arm[ZERO_SHOT].values()
        best = min(scratch[size].metrics[SCORE] for size in sizes)
        yield [
            task,
            zero.shift,
            f"{zero.model} v{zero.suite_version}",
            _error(zero),
            _error(tuned[sizes[-1]]),
            f"{best:.3g}",
            _gain(pairs, errors),
            *(f"{_ratio(pair):.1f}" for pair in pairs),
        ]


def _error(record: Record) -> str:
    low, high = record.interval[SCORE]
    return f"{record.metrics[SCORE]:.3g} ({low:.3g}–{high:.3g})"


def _ratio(pair: tuple[Record, Record]) -> float:
    return pair[0].metrics[SCORE] / pair[1].metrics[SCORE]


def _gain(pairs: list[tuple[Record, Record]], errors: dict[str, np.ndarray]) -> str:
    gain = geometric_mean([_ratio(pair) for pair in pairs])
    if any(record.errors_sha256 not in errors for pair in pairs for record in pair):
        return f"{gain:.2f}"
    table = np.array([[errors[record.errors_sha256] for record in pair] for pair in pairs], dtype=float)
    scores = np.log(table @ weights(table.shape[-1], pairs[0][0].task).T)  # (N, arms, resamples)
    low, high = np.exp(np.quantile((scores[:, 0] - scores[:, 1]).mean(axis=0), (0.025, 0.975)))
    return f"{gain:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", default=["ood_sys1", "ood_sys2", "ood_sys3"])
    parser.add_argument("--profile", default="lite")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    header = ["task", "shift", "model", "zero-shot", "fine-tuned, largest N", "best scratch", "gain", "by N"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for suite in options.suite:
        for path in sorted((RECORDS / suite / options.profile).glob("*.jsonl")):
            for row in rows(path, options.seed):
                print("| " + " | ".join([*row[:7], ", ".join(row[7:])]) + " |")


if __name__ == "__main__":
    main()
