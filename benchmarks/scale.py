"""Take one training step of the largest network through the shared loop, and report its time and peak memory.

    python benchmarks/scale.py [--model fno-256m] [--n 128] [--examples 128] [--json]

The batch is the paper's. The loop accumulates it in parts if the backward pass would need too much memory. One thread.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

import torch
from report import save

from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm.api import load_examples
from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.registry import registry


def peak() -> float | None:
    """Return the largest resident size of this process in GB, or None if the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[0]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="fno-256m")
    parser.add_argument("--n", type=int, default=128, help="grid points a side")
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--json", action="store_true", help="write results/scale.json")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    source = "ood_sys1:SYS-1(1,5)"
    train = load_examples(source, split="pretraining", count=options.examples, grid=options.n)
    validation = load_examples(source, split="validation", count=8, grid=options.n)
    entry = registry().get("models", options.model)
    model = registry().load("models", options.model)(**entry.arguments)
    model.initialise(train.problem, train, 0)
    with tempfile.TemporaryDirectory() as folder:
        budget, trial = Budget(None, 1, options.examples), TrialSettings({"learning_rate": 1e-4}, 0)
        report = model.fit(train, validation, budget, trial, FitContext(Path(folder)))
    inputs, _ = validation.batch(range(8))
    start = time.perf_counter()
    model.predict(train.problem, inputs)
    found = {"fit": report.train_seconds, "predict": time.perf_counter() - start, "peak": peak()}
    print(
        f"{options.model}, {options.n}²: a step over {options.examples} examples and 8 validated in {found['fit']:.0f} "
        f"s; 8 predicted in {found['predict']:.1f} s; peak memory {found['peak'] or float('nan'):.1f} GB"
    )
    if options.json:
        print(save("scale", vars(options), found))


if __name__ == "__main__":
    main()
