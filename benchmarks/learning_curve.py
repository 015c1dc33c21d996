"""One learning curve: `pdefm run` against the same protocol carried out plainly, each started from nothing.

    python benchmarks/learning_curve.py [--batch 128] [--steps 2] [--validation 64] [--json]

Poisson at 64², fno-64k, pre-training included: 5 learning rates × N = 8, 16, …, 1024 × fine-tune and scratch, and
zero-shot. Ours is the runner as the command line calls it, with one worker process a core. The plain side
(`plain_protocol.py`) has the same initial weights, examples, order and schedule, but the plain network, examples read
from HDF5 files by a DataLoader with one worker, full validation every epoch, torch's plain Adam, and one learning rate
after the other. It has torch's default threads, or one where a few steps beforehand show that one is faster (two
threads wait for each other where anything else uses a core). Its files are written beforehand, outside the clock.

Both sides run in a process of their own, one after the other; wall seconds are those of the whole process. Batches are
the paper's: 128 examples, or all N where there are fewer. The rest of the paper's budget (500 epochs, 4,096 validation
examples) is scaled down until the plain side takes minutes: fixed steps, since with epochs N = 8 would get one. Nothing
is learnt in so few steps: equal scores say that the arithmetic is equal. `--batch 16 --steps 20` comes close to the
profile lite of `ood_sys1`, where a plain step works in the cache; its figures go to a file of their own. A second seed
of every third point, outside the clock too, tells how much scores move by chance.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import save

if TYPE_CHECKING:
    from pdebench_fm.interfaces import Progress
    from pdebench_fm.plan.job import Job
    from pdebench_fm.run.worker import Outcome

BATCH = 128
"""The paper's."""
SIZES = [8, 16, 32, 64, 128, 256, 512, 1024]
TRAINING_RATES = [1e-3, 2e-3, 5e-3, 1e-2, 2e-2]
TUNING_RATES = [2e-4, 5e-4, 1e-3, 2e-3, 5e-3]
SOURCE, TARGET = "SYS-1(1,5)", "SYS-1(5,10)"
MODEL, WIDTH, MODES = "fno-64k", 16, 4
STAGES = ("start-up", "pre-training", "fine-tune", "scratch", "evaluation", "idle, rest")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

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
    training: {{epochs: {pretraining_epochs}, batch_size: {batch}, learning_rates: {TRAINING_RATES}}}
    fine_tuning: {{{budget}, learning_rates: {TUNING_RATES}}}
    under_trained: true
"""


def write_suites(settings: dict[str, Any], folder: Path) -> Path:
    """Write the suite of the curve, which is returned, and one of every third point for the second seed."""
    sizes = settings["sizes"]
    _write_suite(settings, folder / "spread.yaml", sizes[::-3][::-1])
    return _write_suite(settings, folder / "curve.yaml", sizes)


def _write_suite(settings: dict[str, Any], path: Path, sizes: list[int]) -> Path:
    budget = f"epochs: {settings['epochs']}" if settings["epochs"] else f"steps: {settings['steps']}"
    filled = {**globals(), **settings, "sizes": sizes, "pool": settings["sizes"][-1], "budget": budget}
    path.write_text(SUITE.format(**filled), encoding="utf-8")
    return path


def write_files(settings: dict[str, Any], suite: Path, folder: Path) -> dict[str, Any]:
    """Write the plain side's examples; return how long they took, and the period of the pool."""
    from pdebench_fm.data.hdf5 import export
    from pdebench_fm.plan.sets import open_distribution

    wanted = {
        "pretraining": (SOURCE, "pretraining", settings["pretraining"]),
        "source-validation": (SOURCE, "validation", settings["validation"]),
        "source-test": (SOURCE, "test", settings["test"]),
        "pool": (TARGET, "train", settings["sizes"][-1]),
        "validation": (TARGET, "validation", settings["validation"]),
        "test": (TARGET, "test", settings["test"]),
    }
    about: dict[str, Any] = {"examples": 0, "draw_seconds": 0.0, "solve_seconds": 0.0}
    for name, (distribution, split, count) in wanted.items():
        reference = f"{suite}:{distribution}"
        opened = open_distribution(reference, split=split, count=count, grid=settings["grid"], device="cpu")  # type: ignore[arg-type]
        start = time.perf_counter()
        opened.examples.batch([0])  # draws all parameters, solves one example
        drawn = time.perf_counter()
        batches = [opened.examples.batch(range(i, min(i + 64, count))) for i in range(0, count, 64)]
        about["examples"] += count
        about["draw_seconds"] += drawn - start
        about["solve_seconds"] += time.perf_counter() - drawn
        export(folder / f"{name}.h5", opened.examples.problem, iter(batches), count, {"distribution": distribution})
        if name == "pool":
            about["period"] = opened.period
    return about


class Clock:
    """Hears of the runner's jobs and notes when each began and ended."""

    def __init__(self) -> None:
        self.started_at: dict[str, float] = {}
        self.jobs: list[dict[str, Any]] = []

    def started(self, job: Job) -> None:
        self.started_at[job.id] = time.time()

    def progressed(self, job: Job, progress: Progress) -> None:
        pass

    def finished(self, job: Job, outcome: Outcome) -> None:
        stage = _stage(job.kind, job.description["protocol"]["name"])
        seconds = time.time() - self.started_at[job.id]
        fitted = {name: outcome.result.get(name, 0.0) for name in ("train_seconds", "data_seconds")}
        self.jobs.append({"label": job.label, "stage": stage, "seconds": seconds, **fitted})


def _stage(kind: str, protocol: str) -> str:
    return "evaluation" if kind == "point" else {"pretraining": "pre-training"}.get(protocol, protocol)


def run_ours(suite: Path, spawned: float, seeds: int = 1) -> dict[str, Any]:
    """Do what ``pdefm run`` does; what the suite shares with a run that lies beside it is taken from there."""
    from pdebench_fm.run.executors import begin_loading, cpu_count

    workers = cpu_count()
    begin_loading()  # before this process imports torch
    from pdebench_fm.api import execute, prepare

    prepared = prepare(MODEL, suite, seeds=seeds, device="cpu", output=suite.parent / "runs")
    clock = Clock()
    result = execute(prepared, clock, workers)
    if not result.complete:
        raise SystemExit("our side did not finish: " + "; ".join(r.reason for r in result.records if r.reason))
    points = []
    for record in result.records:
        chosen = [trial for trial in record.trials if trial.hyperparameters["learning_rate"] == record.learning_rate]
        points.append(
            {
                "arm": "pre-training" if record.kind == "pretraining" else record.protocol,
                "examples": record.examples,
                "seed": record.seed,
                "rate": record.learning_rate,
                "epoch": chosen[0].best_epoch if chosen else 0,
                "validation": chosen[0].validation if chosen else None,
                "score": record.metrics["relative_l2"],
            }
        )
    seconds = {"start-up": min(clock.started_at.values()) - spawned}
    for stage in STAGES[1:-1]:  # with several workers a second of work is less than a second of waiting
        seconds[stage] = sum(job["seconds"] for job in clock.jobs if job["stage"] == stage) / workers
    return {"workers": workers, "seconds": seconds, "points": points, "jobs": clock.jobs}


def run_plain(settings: dict[str, Any], folder: Path, spawned: float) -> dict[str, Any]:
    """The same, plainly."""
    import torch
    from pdefm_fno.model import FNO
    from pdefm_fno.reference import ReferenceNetwork
    from plain_protocol import Decode, EpochOrder, FileExamples, decoder, evaluate, fit, loader

    from pdebench_fm.data.combine import Subset
    from pdebench_fm.data.hdf5 import HDF5Examples
    from pdebench_fm.data.open import few_shot_ids
    from pdebench_fm.training import InputNormalisation

    torch.set_num_threads(settings["threads"])
    seconds: dict[str, float] = defaultdict(float)
    seconds["start-up"] = time.time() - spawned
    points: list[dict[str, Any]] = []
    batch = settings["batch"]
    pool = HDF5Examples(folder / "pool.h5")
    validation = loader(FileExamples(folder / "validation.h5"), batch)
    test = loader(FileExamples(folder / "test.h5"), batch)

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[stage] += time.perf_counter() - start
        return result

    def untrained(normalised_on: Any, seed: int = 0) -> tuple[ReferenceNetwork, Decode]:
        """The plain network with the weights that ours begins with."""
        torch.manual_seed(seed)
        network = ReferenceNetwork.of(FNO(WIDTH, MODES).build(pool.problem))
        return network, decoder(pool.problem, InputNormalisation.fit(pool.problem, normalised_on))

    def tuned(start: Any, decode: Decode, examples: FileExamples, steps: int, rates: list[float], judge: Any) -> Any:
        """Fit once with each rate; return the best network and how it came about."""
        best: tuple[float, Any, dict[str, Any]] | None = None
        for rate in rates:
            network = copy.deepcopy(start)
            train = loader(examples, min(batch, len(examples)), order=EpochOrder(len(examples), seed=0))
            report = fit(network, decode, train, judge, steps=steps, rate=rate)
            if best is None or report.validation < best[0]:
                about = {"rate": rate, "epoch": report.best_epoch, "validation": report.validation}
                best = report.validation, network, about
        assert best is not None
        return best[1], best[2]

    def score(arm: str, count: int, network: Any, decode: Decode, on: Any, about: dict[str, Any] | None = None) -> None:
        _, value = timed("evaluation", lambda: evaluate(network, decode, on))
        about = about or {"rate": None, "epoch": 0, "validation": None}
        points.append({"arm": arm, "examples": count, "seed": 0, **about, "score": value})

    def steps_of(count: int, epochs: int | None) -> int:
        return settings["steps"] if epochs is None else epochs * -(-count // min(batch, count))

    def pretrain() -> Any:
        network, decode = untrained(HDF5Examples(folder / "pretraining.h5"))
        examples = FileExamples(folder / "pretraining.h5")
        steps = steps_of(len(examples), settings["pretraining_epochs"])
        judge = loader(FileExamples(folder / "source-validation.h5"), batch)
        network, about = tuned(network, decode, examples, steps, TRAINING_RATES, judge)
        return network, decode, about

    pretrained, pretrained_decode, about = timed("pre-training", pretrain)
    source_test = loader(FileExamples(folder / "source-test.h5"), batch)
    score("pre-training", settings["pretraining"], pretrained, pretrained_decode, source_test, about)
    score("zero-shot", 0, pretrained, pretrained_decode, test)
    for arm, rates in (("fine-tune", TUNING_RATES), ("scratch", TRAINING_RATES)):
        if arm == "scratch":
            score(arm, 0, *untrained(Subset(pool, [])), test)
        for count in settings["sizes"]:

            def point(arm: str = arm, rates: list[float] = rates, count: int = count) -> Any:
                ids = few_shot_ids(len(pool), count, 0, settings["period"])
                fresh = arm == "scratch"
                network, decode = untrained(Subset(pool, ids)) if fresh else (pretrained, pretrained_decode)
                examples, steps = FileExamples(folder / "pool.h5", ids), steps_of(count, settings["epochs"])
                network, about = tuned(network, decode, examples, steps, rates, validation)
                return network, decode, about

            network, decode, about = timed(arm, point)
            score(arm, count, network, decode, test, about)
    return {"threads": torch.get_num_threads(), "seconds": dict(seconds), "points": points}


def probe(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Time a few plain steps with torch's default threads and with one; return the seconds and the better number."""
    import torch
    from pdefm_fno.model import FNO
    from pdefm_fno.reference import ReferenceNetwork
    from plain_protocol import EpochOrder, FileExamples, decoder, fit, loader

    from pdebench_fm.data.hdf5 import HDF5Examples
    from pdebench_fm.training import InputNormalisation

    examples, batch = HDF5Examples(folder / "pool.h5"), settings["batch"]
    decode = decoder(examples.problem, InputNormalisation.fit(examples.problem, examples))
    network = ReferenceNetwork.of(FNO(WIDTH, MODES).build(examples.problem))
    few = FileExamples(folder / "pool.h5", range(min(batch, len(examples))))
    loaders = loader(few, batch, order=EpochOrder(len(few), seed=0)), loader(few, batch)
    seconds: dict[int, list[float]] = {torch.get_num_threads(): [], 1: []}
    for _ in range(2):  # the first warms up
        for threads, taken in seconds.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            fit(network, decode, *loaders, steps=2, rate=1e-4)
            taken.append(time.perf_counter() - start)
    return {"seconds": seconds, "best": min(seconds, key=lambda threads: min(seconds[threads]))}


def spawn(side: str, folder: Path) -> dict[str, Any]:
    """Run one side in a fresh interpreter with default threads and empty caches; return what it wrote."""
    environment = {name: value for name, value in os.environ.items() if name not in _THREAD_VARIABLES}
    environment["PDEFM_CACHE_DIR"] = str(folder / "cache")
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--spawned", repr(time.time())]
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    wall = time.perf_counter() - start
    result: dict[str, Any] = json.loads((folder / f"{side}.json").read_text(encoding="utf-8"))
    if side in ("plain", "ours"):
        result["seconds"]["idle, rest"] = wall - sum(result["seconds"].values())
    return {**result, "wall_seconds": wall}


def compare(plain: dict[str, Any], ours: dict[str, Any], spread: dict[str, Any]) -> list[dict[str, Any]]:
    """Set the points of both beside each other, and beside what another seed changes."""

    def keyed(points: list[dict[str, Any]], seed: int) -> dict[tuple[str, int], dict[str, Any]]:
        return {(point["arm"], point["examples"]): point for point in points if point["seed"] == seed}

    mine, other = keyed(ours["points"], 0), keyed(spread["points"], 1)
    rows = []
    for key, theirs in keyed(plain["points"], 0).items():
        own = mine[key]
        row = {"arm": key[0], "examples": key[1], "plain": theirs, "ours": own, "other_seed": None, "seed_spread": None}
        row["same_choice"] = (own["rate"], own["epoch"]) == (theirs["rate"], theirs["epoch"])
        row["difference"] = abs(own["score"] / theirs["score"] - 1)
        if key in other:
            row["other_seed"] = other[key]["score"]
            row["seed_spread"] = abs(other[key]["score"] / own["score"] - 1)
        rows.append(row)
    return rows


def show(plain: dict[str, Any], ours: dict[str, Any], rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    print(f"{'wall seconds':14s} {'plain':>9s} {'ours':>9s} {'ratio':>7s}")
    for stage in (*STAGES, "total"):
        base, own = ((side["seconds"].get(stage, side["wall_seconds"])) for side in (plain, ours))
        print(f"{stage:14s} {base:9.2f} {own:9.2f} {base / own:6.1f}×")
    fits = [job for job in ours["jobs"] if job["stage"] != "evaluation"]
    fitting, making = (sum(job[name] for job in fits) for name in ("train_seconds", "data_seconds"))
    print(
        f"ours: {ours['workers']} workers; the seconds of a stage are those of its jobs divided by that. "
        f"Fits take {fitting:.1f} s of work, {making:.2f} s of it to fetch examples; data, scoring and saving around "
        f"them {sum(job['seconds'] for job in fits) - fitting:.1f} s. plain: {plain['threads']} threads. "
        f"All {data['examples']} examples once, one thread: drawn in {data['draw_seconds']:.2f} s, "
        f"solved in {data['solve_seconds']:.2f} s.\n"
    )
    print(f"{'point':20s} {'plain: rate, epoch, score':>28s} {'ours: rate, epoch, score':>28s}  difference  other seed")
    for row in rows:
        shown = [
            f"{side['rate'] or 0:>12g} {side['epoch']:>5d} {side['score']:>9.5f}"
            for side in (row["plain"], row["ours"])
        ]
        spread = f"{row['seed_spread']:10.1e}" if row["seed_spread"] is not None else f"{'–':>10s}"
        print(f"{row['arm']:14s} {row['examples']:5d} {shown[0]} {shown[1]}  {row['difference']:10.1e}  {spread}")
    same = sum(row["same_choice"] for row in rows)
    repeated = [row for row in rows if row["seed_spread"] is not None]
    within = sum(row["difference"] <= row["seed_spread"] for row in repeated)
    print(f"same rate and epoch at {same} of {len(rows)} points; ", end="")
    print(f"largest relative difference of scores {max(row['difference'] for row in rows):.1e}; ", end="")
    print(f"smaller than between two seeds at {within} of {len(repeated)} points, ", end="")
    print(f"where the median is {statistics.median(row['seed_spread'] for row in repeated):.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, default=64)
    parser.add_argument("--batch", type=int, default=BATCH, help="examples a step, fewer where N is smaller")
    parser.add_argument("--steps", type=int, default=2, help="steps of every downstream fit")
    parser.add_argument("--epochs", type=int, help="epochs of every downstream fit, instead of --steps")
    parser.add_argument("--validation", type=int, default=64, help="validation examples")
    parser.add_argument("--test", type=int, default=64, help="test examples")
    parser.add_argument("--pretraining", type=int, default=256, help="pre-training examples")
    parser.add_argument("--pretraining-epochs", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N", help="few-shot sizes, increasing")
    parser.add_argument("--json", action="store_true", help="save the figures under results/")
    parser.add_argument("--side", choices=["probe", "plain", "ours", "spread"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--spawned", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side is not None:  # the process of one side
        settings = json.loads((options.folder / "settings.json").read_text(encoding="utf-8"))
        if options.side == "probe":
            result = probe(settings, options.folder)
        elif options.side == "plain":
            result = run_plain(settings, options.folder, options.spawned)
        else:
            name, seeds = {"ours": ("curve", 1), "spread": ("spread", 2)}[options.side]
            result = run_ours(options.folder / f"{name}.yaml", options.spawned, seeds)
        (options.folder / f"{options.side}.json").write_text(json.dumps(result), encoding="utf-8")
        return

    settings = {
        name: value for name, value in vars(options).items() if name not in ("json", "side", "folder", "spawned")
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_files(settings, write_suites(settings, folder), folder)

        def tell(**more: Any) -> None:
            (folder / "settings.json").write_text(json.dumps({**settings, **more}), encoding="utf-8")

        tell()
        probed = spawn("probe", folder)
        tell(period=data.pop("period"), threads=probed["best"])
        ours, plain, spread = (spawn(side, folder) for side in ("ours", "plain", "spread"))
    rows = compare(plain, ours, spread)
    show(plain, ours, rows, data)
    if options.json:
        ratio = plain["wall_seconds"] / ours["wall_seconds"]
        sides = {"plain": {**plain, "probe": probed["seconds"]}, "ours": ours}
        for side in sides.values():
            side.pop("points")  # they stand beside each other in ``points``
        name = "learning_curve" if options.batch == BATCH else f"learning_curve_batch{options.batch}"
        print(save(name, settings, {"ratio": ratio, **sides, "data": data, "points": rows}))


if __name__ == "__main__":
    main()
