"""Time one whole learning curve: ``pdefm run`` against the same protocol carried out plainly.

    python benchmarks/learning_curve.py [--batch 128] [--steps 2] [--json]     # the paper's batch: about 8 minutes
    python benchmarks/learning_curve.py --batch 16 --steps 20 --json           # close to the profile lite

fno-64k on Poisson at 64²: pre-training, zero-shot, then 5 learning rates × N = 8, 16, …, 1024 × fine-tune and scratch.
The plain side (`plain_protocol.py`) has the same initial weights, examples, order and schedule. It uses the plain
network, reads HDF5 files through a DataLoader with one worker, and fits one learning rate after the other, with one
thread or two, whichever a few steps beforehand show to be faster. Writing its files is not timed.

Each side runs once, in a fresh process with empty caches. The budget is cut until the plain side takes minutes: the
networks learn nothing, and equal scores show that the arithmetic is equal.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from report import save

SIZES = [8, 16, 32, 64, 128, 256, 512, 1024]
TRAINING_RATES = [1e-3, 2e-3, 5e-3, 1e-2, 2e-2]
TUNING_RATES = [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
SOURCE, TARGET = "SYS-1(1,5)", "SYS-1(5,10)"
MODEL, WIDTH, MODES = "fno-64k", 16, 4
CHUNK = 64
"""Examples that are written to a file at once."""

SUITE = """\
name: learning-curve
version: 1
description: One learning curve, for timing.
default_profile: curve
distributions:
  "{SOURCE}": {{system: poisson, eigenvalue: [1, 5]}}
  "{TARGET}": {{system: poisson, eigenvalue: [5, 10]}}
pretraining:
  poisson: ["{SOURCE}"]
tasks:
  - {{name: curve, pretraining: poisson, downstream: "{TARGET}", shift: med}}
protocols: [zero-shot, fine-tune, scratch]
profiles:
  curve:
    grid: {grid}
    examples:
      {{pretraining: {pretraining}, validation: {validation}, test: {test}, pool: {pool}, downstream: {sizes}}}
    training: {{epochs: 1, batch_size: {batch}, learning_rates: {TRAINING_RATES}}}
    fine_tuning: {{steps: {steps}, learning_rates: {TUNING_RATES}}}
    under_trained: true
"""

Points = dict[str, dict[str, Any]]
"""Chosen rate and epoch, and score, by arm and N."""


def write_suite(settings: dict[str, Any], folder: Path) -> Path:
    """Write the suite of the curve; return its path."""
    path = folder / "curve.yaml"
    path.write_text(SUITE.format(**globals(), **settings, pool=settings["sizes"][-1]), encoding="utf-8")
    return path


def write_files(settings: dict[str, Any], suite: Path, folder: Path) -> int | None:
    """Write the plain side's examples; return the period of the pool."""
    from pdebench_fm.data.hdf5 import export
    from pdebench_fm.plan.sets import open_distribution

    wanted = {
        "pretraining": (SOURCE, "pretraining", settings["pretraining"]),
        "source-validation": (SOURCE, "validation", settings["validation"]),
        "source-test": (SOURCE, "test", settings["test"]),
        "validation": (TARGET, "validation", settings["validation"]),
        "test": (TARGET, "test", settings["test"]),
        "pool": (TARGET, "train", settings["sizes"][-1]),
    }
    for name, (distribution, split, count) in wanted.items():
        reference = f"{suite}:{distribution}"
        opened = open_distribution(reference, split=split, count=count, grid=settings["grid"], device="cpu")  # type: ignore[arg-type]
        batches = (opened.examples.batch(range(i, min(i + CHUNK, count))) for i in range(0, count, CHUNK))
        export(folder / f"{name}.h5", opened.examples.problem, batches, count, {"distribution": distribution})
    return opened.period


def run_ours(suite: Path, folder: Path) -> tuple[float, Points]:
    """Run the command; return its wall seconds and its points."""
    command = [sys.executable, "-m", "pdebench_fm.cli", "run", str(suite), "--model", MODEL, "--device", "cpu"]
    environment = {**os.environ, "PDEFM_CACHE_DIR": str(folder / "cache")}
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--output", str(folder / "runs"), "--json"], check=True, env=environment, stdout=subprocess.PIPE
    )
    seconds = time.perf_counter() - start
    points: Points = {}
    for record in json.loads(done.stdout):
        rate = record["learning_rate"]
        chosen = [trial for trial in record["trials"] if trial["hyperparameters"]["learning_rate"] == rate]
        epoch = chosen[0]["best_epoch"] if chosen else 0
        points[f"{record['protocol']} {record['examples']}"] = {
            "rate": rate,
            "epoch": epoch,
            "score": record["metrics"]["relative_l2"],
        }
    return seconds, points


def run_plain(settings: dict[str, Any], folder: Path) -> Points:
    """Carry out the same protocol plainly."""
    import torch
    from pdefm_fno.model import FNO
    from pdefm_fno.reference import ReferenceNetwork
    from plain_protocol import Decode, EpochOrder, FileExamples, decoder, evaluate, fit, loader

    from pdebench_fm.data.combine import Subset
    from pdebench_fm.data.hdf5 import HDF5Examples
    from pdebench_fm.data.open import few_shot_ids
    from pdebench_fm.training import InputNormalisation

    torch.set_num_threads(settings["threads"])
    points: Points = {}
    batch = settings["batch"]
    pool = HDF5Examples(folder / "pool.h5")
    validation = loader(FileExamples(folder / "validation.h5"), batch)
    test = loader(FileExamples(folder / "test.h5"), batch)

    def untrained(normalised_on: Any) -> tuple[ReferenceNetwork, Decode]:
        """The plain network with the weights that ours begins with."""
        torch.manual_seed(0)
        network = ReferenceNetwork.of(FNO(WIDTH, MODES).build(pool.problem))
        return network, decoder(pool.problem, InputNormalisation.fit(pool.problem, normalised_on))

    def tuned(
        start: Any, decode: Decode, examples: FileExamples, steps: int, rates: list[float], judge: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Fit once with each rate; return the best network and how it came about."""
        best: tuple[float, Any, dict[str, Any]] | None = None
        for rate in rates:
            network = copy.deepcopy(start)
            train = loader(examples, min(batch, len(examples)), order=EpochOrder(len(examples), seed=0))
            report = fit(network, decode, train, judge, steps=steps, rate=rate)
            if best is None or report.validation < best[0]:
                best = report.validation, network, {"rate": rate, "epoch": report.best_epoch}
        assert best is not None
        return best[1], best[2]

    def score(label: str, network: Any, decode: Decode, on: Any, about: dict[str, Any] | None = None) -> None:
        points[label] = {**(about or {"rate": None, "epoch": 0}), "score": evaluate(network, decode, on)[1]}

    # Pre-training, and what it is worth without further training.
    source = FileExamples(folder / "pretraining.h5")
    network, decode = untrained(HDF5Examples(folder / "pretraining.h5"))
    judge = loader(FileExamples(folder / "source-validation.h5"), batch)
    steps = -(-len(source) // min(batch, len(source)))
    pretrained, about = tuned(network, decode, source, steps, TRAINING_RATES, judge)
    score(
        f"pretraining {len(source)}", pretrained, decode, loader(FileExamples(folder / "source-test.h5"), batch), about
    )
    score("zero-shot 0", pretrained, decode, test)
    # Both arms, from the pre-trained network and from scratch.
    score("scratch 0", *untrained(Subset(pool, [])), test)
    for count in settings["sizes"]:
        ids = few_shot_ids(len(pool), count, 0, settings["period"])
        few = FileExamples(folder / "pool.h5", ids)
        fresh = untrained(Subset(pool, ids))
        for arm, rates, (start, own) in (
            ("fine-tune", TUNING_RATES, (pretrained, decode)),
            ("scratch", TRAINING_RATES, fresh),
        ):
            network, about = tuned(start, own, few, settings["steps"], rates, validation)
            score(f"{arm} {count}", network, own, test, about)
    return points


def faster_threads(settings: dict[str, Any], folder: Path) -> int:
    """Return with how many threads a plain step is faster: torch's default number, or one."""
    import torch
    from pdefm_fno.model import FNO
    from pdefm_fno.reference import ReferenceNetwork
    from plain_protocol import EpochOrder, FileExamples, decoder, fit, loader

    from pdebench_fm.data.hdf5 import HDF5Examples
    from pdebench_fm.training import InputNormalisation

    examples = HDF5Examples(folder / "pool.h5")
    decode = decoder(examples.problem, InputNormalisation.fit(examples.problem, examples))
    network = ReferenceNetwork.of(FNO(WIDTH, MODES).build(examples.problem))
    few = FileExamples(folder / "pool.h5", range(min(settings["batch"], len(examples))))
    loaders = loader(few, settings["batch"], order=EpochOrder(len(few), seed=0)), loader(few, settings["batch"])
    seconds: dict[int, float] = {torch.get_num_threads(): 0.0, 1: 0.0}
    for _ in range(2):  # the first warms up
        for threads in seconds:
            torch.set_num_threads(threads)
            start = time.perf_counter()
            fit(network, decode, *loaders, steps=2, rate=1e-4)
            seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda threads: seconds[threads])


def in_fresh_process(side: str, settings: dict[str, Any], folder: Path) -> tuple[float, Any]:
    """Run the plain side, or the choice of its threads; return the wall seconds and the result."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, input=json.dumps(settings), stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - start, json.loads(done.stdout)


def show(seconds: dict[str, float], plain: Points, ours: Points) -> None:
    """Print the table, and how far the scores differ."""
    print(f"{'':20s} {'plain: rate, epoch, score':>28s} {'ours: rate, epoch, score':>28s}")
    for label, theirs in plain.items():
        shown = (f"{p['rate'] or 0:>12g} {p['epoch']:>5d} {p['score']:>9.5f}" for p in (theirs, ours[label]))
        print(f"{label:20s} " + " ".join(shown))
    same = sum((p["rate"], p["epoch"]) == (ours[label]["rate"], ours[label]["epoch"]) for label, p in plain.items())
    worst = max(abs(ours[label]["score"] / p["score"] - 1) for label, p in plain.items())
    print(f"same rate and epoch at {same} of {len(plain)} points; scores differ by {worst:.0e} at most")
    print(
        f"plain {seconds['plain']:.1f} s, ours {seconds['ours']:.1f} s: {seconds['plain'] / seconds['ours']:.1f} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128, help="examples a step, fewer if N is smaller")
    parser.add_argument("--steps", type=int, default=2, help="steps of every downstream fit")
    parser.add_argument("--validation", type=int, default=64, help="validation examples")
    parser.add_argument("--test", type=int, default=64, help="test examples")
    parser.add_argument("--pretraining", type=int, default=256, help="pre-training examples, read once")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="few-shot sizes, increasing")
    parser.add_argument("--json", action="store_true", help="write results/learning_curve*.json")
    parser.add_argument("--side", choices=["threads", "plain"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:  # in the process of one side
        side = {"threads": faster_threads, "plain": run_plain}[options.side]
        print(json.dumps(side(json.load(sys.stdin), options.folder)))
        return

    settings = {name: value for name, value in vars(options).items() if name not in ("json", "side", "folder")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = write_suite(settings, folder)
        more = {"period": write_files(settings, suite, folder)}
        _, more["threads"] = in_fresh_process("threads", settings, folder)
        ours_seconds, ours = run_ours(suite, folder)
        plain_seconds, plain = in_fresh_process("plain", {**settings, **more}, folder)
    seconds = {"plain": plain_seconds, "ours": ours_seconds}
    show(seconds, plain, ours)
    if options.json:
        found = {"seconds": seconds, "threads": more["threads"], "plain": plain, "ours": ours}
        print(
            save("learning_curve" if options.batch == 128 else f"learning_curve_batch{options.batch}", settings, found)
        )


if __name__ == "__main__":
    main()
