"""Measure what the own Adam call and validation racing gain on a whole learning curve.

    python benchmarks/inventions.py [--pairs 2] [--json]

fno-64k on Poisson at 64², one thread, the budgets of ood_sys1's profile lite: 64 validation examples, batch 16, 4,096
steps of pre-training (2 of the 16 epochs are run and counted eight times) and 500 steps a fit. One learning rate is run
and counted as often as lite has rates; N = 2048 also counts for 512. `--validation 4096 --sizes 8 --steps 64` is the
paper's validation set at its smallest N. Variants take turns, each in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VARIANTS = ("ours", "torch-adam", "every-epoch")
SOURCE, TARGET = "ood_sys1:SYS-1(1,5)", "ood_sys1:SYS-1(5,10)"


def replace_adam() -> None:
    """Let the loop use torch's own optimiser."""
    import torch

    from pdebench_fm.training import loop

    class TorchAdam:
        def __init__(self, parameters: Any, fused: bool) -> None:
            self.optimiser = torch.optim.Adam(parameters, fused=fused)

        def step(self, learning_rate: float) -> None:
            self.optimiser.param_groups[0]["lr"] = learning_rate
            self.optimiser.step()

        def state(self) -> Any:
            return self.optimiser.state_dict()

    loop.Adam = TorchAdam  # type: ignore[misc,assignment]


def replace_race() -> None:
    """Let the loop evaluate every epoch on every validation example."""
    import numpy as np
    import torch

    from pdebench_fm.training import loop, race

    class EveryEpoch(race.EpochRace):
        best_epoch, best_loss = 0, None  # type: ignore[assignment]

        @torch.no_grad()
        def enter(self, number: int) -> dict[int, float]:
            self._module.eval()
            sums = []
            size = self._chunk
            for start in range(0, len(self._feed), size):
                ids = np.arange(start, min(start + size, len(self._feed)))
                fields, constants, target = self._feed.batch(ids)
                sums.append((self._module(fields, constants) - target).square().flatten(1).sum(dim=1).double())
            loss = float(torch.cat(sums).mean())
            self._module.train()
            if self.best_loss is None or loss < self.best_loss:
                self.best_epoch, self.best_loss = number, loss
                self.kept = [tensor.clone() for tensor in self._tensors]
            return {number: loss}

        def judge(self) -> dict[int, float]:
            return {}

        def take_best(self) -> None:
            self._put(self.kept)

        def state(self) -> dict[str, Any]:
            return {"best": getattr(self, "kept", [])}

    loop.EpochRace = EveryEpoch


def clocks() -> tuple[float, float]:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime, time.perf_counter()


def measure(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the fits of one variant; return user CPU seconds, wall seconds and best epoch of each."""
    import torch
    from pdefm_fno.model import FNO

    from pdebench_fm._util.memory import keep_freed_memory
    from pdebench_fm.data.combine import Subset, kept
    from pdebench_fm.data.open import few_shot_ids
    from pdebench_fm.interfaces import Budget, FitContext, Trial
    from pdebench_fm.plan.sets import open_distribution
    from pdebench_fm.training import loop

    torch.set_num_threads(1)
    keep_freed_memory()
    {"ours": lambda: None, "torch-adam": replace_adam, "every-epoch": replace_race}[variant]()

    def opened(name: str, split: str, count: int) -> Any:
        return open_distribution(name, split=split, count=count, grid=64, device="cpu")  # type: ignore[arg-type]

    pool = opened(TARGET, "train", 4096)
    validation = kept(opened(TARGET, "validation", options.validation).examples)
    before, weight = clocks(), torch.zeros(1, requires_grad=True)
    weight.grad = torch.ones(1)
    loop.Adam([weight], fused=True).step(1e-3)  # the first optimiser of a process may import more
    found: dict[str, Any] = {
        "first step": dict(zip(("cpu", "wall"), map(float.__sub__, clocks(), before), strict=True))
    }

    def fit(label: str, model: FNO, train: Any, judge: Any, budget: Budget, rate: float) -> None:
        with tempfile.TemporaryDirectory() as folder:
            before = clocks()
            report = model.fit(train, judge, budget, Trial({"learning_rate": rate}, 0), FitContext(Path(folder)))
            cpu, wall = (now - then for now, then in zip(clocks(), before, strict=True))
        found[label] = {"cpu": cpu, "wall": wall, "best_epoch": report.best_epoch}
        print(variant, label, found[label], flush=True, file=sys.stderr)

    source = kept(opened(SOURCE, "pretraining", 4096).examples)
    pretrained = FNO(16, 4)
    pretrained.initialise(source.problem, source, 0)
    judge = kept(opened(SOURCE, "validation", 64).examples)
    fit("pre-training", pretrained, source, judge, Budget(options.epochs, None, 16, ()), 1e-2)
    with tempfile.TemporaryDirectory() as folder:
        pretrained.save(Path(folder))
        for count in options.sizes:
            train = kept(Subset(pool.examples, few_shot_ids(len(pool.examples), count, 0, pool.period)))
            budget = Budget(None, options.steps, 16, ())
            fit(f"fine-tune {count}", FNO.load(Path(folder)), train, validation, budget, 2e-3)
            untrained = FNO(16, 4)
            untrained.initialise(train.problem, train, 0)
            fit(f"scratch {count}", untrained, train, validation, budget, 1e-2)
    return found


def curve(found: dict[str, Any], clock: str, epochs: int) -> float:
    """Seconds of lite's whole curve: 2 rates of pre-training, 3 of every N and arm."""
    total = 2 * found["first step"][clock] + 2 * 16 / epochs * found["pre-training"][clock]  # two workers
    for label, fit in found.items():
        if label not in ("first step", "pre-training"):
            total += 3 * (2 if label.endswith("2048") else 1) * fit[clock]
    return float(total)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--validation", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128, 2048])
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options)))
        return
    runs: dict[str, list[Any]] = {variant: [] for variant in options.variants}
    for _ in range(options.pairs):
        for variant in options.variants:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", variant]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            runs[variant].append(json.loads(answer.stdout))
    print(json.dumps(runs))
    for variant, taken in runs.items():
        for clock in ("cpu", "wall"):
            mine, base = ([curve(one, clock, options.epochs) for one in found] for found in (taken, runs["ours"]))
            ratios = [own / other for own, other in zip(mine, base, strict=True)]
            print(f"{variant:12s} {clock:5s} {statistics.median(mine):8.1f} s for the curve, × ours: {ratios}")
    same = {label: [one[label].get("best_epoch") for v in runs.values() for one in v] for label in runs["ours"][0]}
    print("best epochs", same)


if __name__ == "__main__":
    main()
