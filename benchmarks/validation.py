"""How much of a few-shot point's cost is validation: the plain protocol against the training loop, same network.

    python benchmarks/validation.py [--steps 40] [--validation 64] [--json]

fno-64k on Poisson at 64², fine-tuned and from scratch, two learning rates, one thread. The plain protocol evaluates the
whole validation set after every epoch; the loop evaluates what it takes to know the best epoch
(`pdebench_fm.training.race`). Both must choose the same epoch of every fit and the same rate of every point, and the
table says whether they do. Examples are counted, and seconds taken, where they pass through the network without
gradients. The profile lite of `ood_sys1` has these sizes, and 500 steps.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pdefm_fno.model import FNO
from plain_protocol import EpochOrder, as_it_is, evaluate, fit, loader
from report import save
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm.data.combine import Subset, kept
from pdebench_fm.data.open import few_shot_ids
from pdebench_fm.interfaces import Budget, Examples, FitContext, TrialSettings
from pdebench_fm.plan.sets import open_distribution
from pdebench_fm.problem import Fields
from pdebench_fm.training import InputNormalisation, fit_network

RATES = {"fine-tune": (5e-4, 2e-3), "scratch": (2e-3, 1e-2)}
SOURCE, TARGET = "ood_sys1:SYS-1(1,5)", "ood_sys1:SYS-1(5,10)"


class Counted(nn.Module):
    """A network that counts and times its evaluations: calls without gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.examples = 0
        self.seconds = 0.0

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            result: Tensor = self.network(fields, constants)
            return result
        start = time.perf_counter()
        result = self.network(fields, constants)
        self.seconds += time.perf_counter() - start
        self.examples += len(fields)
        return result


@dataclass(frozen=True)
class Measured:
    """One fit: its cost, and what it chose."""

    seconds: float
    validation_seconds: float
    validation_examples: int
    best_epoch: int
    score: float


@dataclass(frozen=True)
class Start:
    """What fits begin from."""

    network: nn.Module
    normalisation: InputNormalisation

    def encode(self, examples: Examples, inputs: Fields) -> tuple[Tensor, Tensor]:
        return self.normalisation(examples.problem, inputs)

    def tensors(self, examples: Examples) -> TensorDataset:
        """The whole set as the network takes it."""
        inputs, outputs = examples.batch(range(len(examples)))
        return TensorDataset(*self.encode(examples, inputs), outputs["solution"][:, None])


def untrained(train: Examples) -> Start:
    torch.manual_seed(0)
    return Start(FNO(16, 4).build(train.problem), InputNormalisation.fit(train.problem, train))


def by_plain_protocol(start: Start, train: Examples, validation: Examples, budget: Budget, rate: float) -> Measured:
    assert budget.steps is not None
    network = Counted(copy.deepcopy(start.network))
    order = EpochOrder(len(train), seed=0)
    clock = time.perf_counter()
    batches = loader(start.tensors(train), budget.batch_size, workers=0, order=order)
    judges = loader(start.tensors(validation), 64, workers=0)
    report = fit(network, as_it_is, batches, judges, steps=budget.steps, rate=rate)
    seconds = time.perf_counter() - clock
    return Measured(seconds, network.seconds, network.examples, report.best_epoch, report.validation)


def by_loop(start: Start, train: Examples, validation: Examples, budget: Budget, rate: float) -> Measured:
    network = Counted(copy.deepcopy(start.network))
    with tempfile.TemporaryDirectory() as folder:
        trial, context = TrialSettings({"learning_rate": rate}, seed=0), FitContext(Path(folder))
        clock = time.perf_counter()
        report = fit_network(network, start.encode, ["solution"], train, validation, budget, trial, context)
        seconds = time.perf_counter() - clock
    _, score = evaluate(network.network, as_it_is, loader(start.tensors(validation), 64, workers=0))
    return Measured(seconds, network.seconds, network.examples, report.best_epoch, score)


def pretrained(options: argparse.Namespace) -> Start:
    """A network trained for as long as a point is, on the source distribution."""
    train = open_distribution(SOURCE, split="pretraining", count=512, grid=options.grid, device="cpu").examples
    validation = open_distribution(SOURCE, split="validation", count=64, grid=options.grid, device="cpu").examples
    start = untrained(train)
    budget = Budget(None, options.steps, options.batch)
    with tempfile.TemporaryDirectory() as folder:
        trial, context = TrialSettings({"learning_rate": 1e-2}, seed=0), FitContext(Path(folder))
        fit_network(start.network, start.encode, ["solution"], train, validation, budget, trial, context)
    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--validation", type=int, default=64, help="validation examples")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128], metavar="N")
    parser.add_argument("--json", action="store_true", help="write results/validation.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()

    pool = open_distribution(TARGET, split="train", count=max(options.sizes), grid=options.grid, device="cpu")
    judge = open_distribution(TARGET, split="validation", count=options.validation, grid=options.grid, device="cpu")
    validation = kept(judge.examples)
    tuned_from = pretrained(options)
    budget = Budget(None, options.steps, options.batch)
    rows: list[dict[str, Any]] = []
    print(f"{'':16s}{'examples evaluated':>22s}{'share of the fits':>20s}{'seconds of the fits':>22s}  same")
    columns = "".join(f"{'plain':>12s}{'loop':>{width}s}" for width in (10, 8, 10))
    print(f"{'arm':11s}{'N':>5s}{columns}  epochs, rate")
    for arm, rates in RATES.items():
        for count in options.sizes:
            ids = few_shot_ids(len(pool.examples), count, 0, pool.period)
            train = kept(Subset(pool.examples, ids))
            start = untrained(train) if arm == "scratch" else tuned_from
            plain = [by_plain_protocol(start, train, validation, budget, rate) for rate in rates]
            loop = [by_loop(start, train, validation, budget, rate) for rate in rates]
            same_epochs = [fit.best_epoch for fit in plain] == [fit.best_epoch for fit in loop]
            chosen = [min(zip(fits, rates, strict=True), key=lambda pair: pair[0].score)[1] for fits in (plain, loop)]
            row = {"arm": arm, "examples": count, "rates": rates, "same_epochs": same_epochs, "chosen_rates": chosen}
            row |= {name: [asdict(fit) for fit in fits] for name, fits in (("plain", plain), ("loop", loop))}
            rows.append(row)
            (seen, share, total), (seen_too, share_too, total_too) = map(_summed, (plain, loop))
            print(
                f"{arm:11s}{count:5d}{seen:12,d}{seen_too:10,d}{share:12.0%}{share_too:8.0%}{total:12.2f}{total_too:10.2f}"
                f"  {'yes' if same_epochs else 'NO'}, {'yes' if chosen[0] == chosen[1] else 'NO'}",
                flush=True,
            )
    if options.json:
        print(save("validation", {n: v for n, v in vars(options).items() if n != "json"}, rows))


def _summed(fits: list[Measured]) -> tuple[int, float, float]:
    """Validation examples, their share of the seconds, and the seconds of several fits."""
    seconds = sum(fit.seconds for fit in fits)
    return sum(fit.validation_examples for fit in fits), sum(fit.validation_seconds for fit in fits) / seconds, seconds


if __name__ == "__main__":
    main()
