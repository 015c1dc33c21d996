"""What each precision of training does to the score and to the time, set against what another seed does.

    python benchmarks/precision.py [--grid 32] [--steps 96] [--seeds 3] [--device cpu] [--json]

fno-64k on Poisson, trained from scratch in every precision with the same seeds, one seed after the other; scored in
float32 on the test set, as always. float64 is the reference: the last column is how far a mode moves the score of the
same seed from it (median over seeds), to be read beside the spread between seeds. Seconds are of one fit. A CPU has no
tf32; it is measured on CUDA only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pdefm_fno.model import FNO
from report import save

from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm.data.combine import kept
from pdebench_fm.data.open import OpenSet
from pdebench_fm.interfaces import Budget, Examples, FitContext, TrialSettings
from pdebench_fm.plan.sets import open_distribution
from pdebench_fm.registry import registry
from pdebench_fm.scoring.point import per_sample
from pdebench_fm.training.precision import PRECISIONS

DISTRIBUTION = "ood_sys1:SYS-1(1,5)"
REFERENCE = "float64"


def opened(split: Any, count: int, options: argparse.Namespace) -> OpenSet:
    found = open_distribution(DISTRIBUTION, split=split, count=count, grid=options.grid, device=options.device)
    return OpenSet(kept(found.examples), found.system)


def train(
    options: argparse.Namespace, examples: Examples, validation: Examples, test: OpenSet, precision: str, seed: int
) -> dict[str, Any]:
    model = FNO(options.width, options.modes)
    model.initialise(examples.problem, examples, seed)
    budget = Budget(None, options.steps, options.batch)
    trial = TrialSettings({"learning_rate": options.rate}, seed)
    with tempfile.TemporaryDirectory() as folder:
        context = FitContext(Path(folder), options.device, precision)
        start = time.perf_counter()
        report = model.fit(examples, validation, budget, trial, context)
        seconds = time.perf_counter() - start
    result = {"precision": precision, "seed": seed, "seconds": seconds, "status": report.status, "score": None}
    if report.status == "ok":
        metric = registry().load("metrics", "relative_l2")()
        result["score"] = float(metric.summarise(per_sample(model, [test], {"score": metric})["score"]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"grid": 32, "width": 16, "modes": 4, "batch": 16, "steps": 96, "seeds": 3, "examples": 512}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="write results/precision.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    modes = [mode for mode in PRECISIONS if mode != "tf32" or options.device.startswith("cuda")]
    examples = opened("train", options.examples, options).examples
    validation = opened("validation", 64, options).examples
    test = opened("test", 256, options)
    warm_up = argparse.Namespace(
        **{**vars(options), "steps": 1}
    )  # the first optimiser of a process imports torch's compiler
    train(warm_up, examples, validation, test, REFERENCE, seed=0)
    results = [
        train(options, examples, validation, test, mode, seed) for seed in range(options.seeds) for mode in modes
    ]
    by = {(result["precision"], result["seed"]): result for result in results}
    seeds = range(options.seeds)
    print(
        f"fno {options.width}/{options.modes}, {options.grid}², batch {options.batch}, {options.steps} steps, "
        f"{options.device}, torch {torch.__version__}; relative L2 in float32"
    )
    print(
        f"{'precision':10s} {'score: median (range over seeds)':>34s} {'seconds':>9s} {'moved from ' + REFERENCE:>20s}"
    )
    for mode in modes:
        scores = [by[mode, seed]["score"] for seed in seeds]
        seconds = statistics.median(by[mode, seed]["seconds"] for seed in seeds)
        if None in scores:
            print(f"{mode:10s} {f'diverged for {scores.count(None)} of {len(scores)} seeds':>34s} {seconds:9.2f}")
            continue
        shown = f"{statistics.median(scores):.5f} ({min(scores):.5f} … {max(scores):.5f})"
        base = [by[REFERENCE, seed]["score"] for seed in seeds]
        moved = (
            "–"
            if None in base
            else f"{statistics.median(abs(s / b - 1) for s, b in zip(scores, base, strict=True)):.1e}"
        )
        print(f"{mode:10s} {shown:>34s} {seconds:9.2f} {moved:>20s}")
    if options.json:
        print(save("precision", {n: v for n, v in vars(options).items() if n != "json"}, results))


if __name__ == "__main__":
    main()
