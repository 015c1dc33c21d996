"""Memory of a training step of the FNO at 128²: what an example holds for the backward pass, and the peak at batch 128.

    python benchmarks/fno_memory.py                    # up to 16m, and the plain network, too: about 90 seconds
    python benchmarks/fno_memory.py --step 256m        # one step of the shared loop over 128 examples, an evaluation
    python benchmarks/fno_memory.py --largest 16       # where memory is scarce: no batch of 128
    python benchmarks/fno_memory.py --json             # also saves the figures under results/

Each figure of the table comes from a process of its own, which has one thread and keeps freed memory, as the workers of
``pdefm run`` do; two run at a time. *Saved* counts the distinct storages that autograd keeps, but for the weights; it
is exact, and linear in the batch. *Resident* is the growth of the process's largest resident size, after two steps,
from a small batch to a large one; it holds what the allocator cannot reuse, too. Where the large one has 128 examples
the peak is measured; where it has fewer, it is drawn out, and marked ``≈``. fno-256m never has so many at once: its
peak is that of ``--step``, which goes through the model's own ``fit``, as in ``pdefm run``; that accumulates a batch in
parts where it would need too much.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

CONSTANTS, BATCH, GIGABYTE = 3, 128, 1e9
SIZES = {"64k": (16, 4, 8, BATCH), "1m": (16, 16, 8, BATCH), "16m": (32, 32, 12, BATCH), "256m": (128, 32, 6, 12)}
"""Width, modes, and the two batches that are measured; the smaller has so many examples that the peak is that of the
activations, not of the optimiser's passes over the weights."""
LEFT_OUT = {("256m", "plain")}
"""Nobody trains it, and it would take more than a minute."""
PLAIN_BATCH = 32
"""Largest batch of the plain network, whose peaks are there for comparison: a step over 128 examples takes it long."""


def peak() -> int:
    """Return the largest resident size of this process so far, bytes."""
    if sys.platform.startswith("linux"):  # where getrusage begins at the size of the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def worker(size: str, kind: str, n: int, batch: int) -> dict[str, Any]:
    """Train two steps of ``batch`` examples."""
    from pdebench_fm._util.memory import keep_freed_memory

    keep_freed_memory()
    import torch
    from pdefm_fno.network import FourierNetwork
    from pdefm_fno.reference import ReferenceNetwork
    from torch import Tensor, nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    width, modes, *_ = SIZES[size]
    before = peak()
    module: nn.Module = (
        FourierNetwork(1, CONSTANTS, 1, width, modes)
        if kind == "ours"
        else ReferenceNetwork(1 + CONSTANTS, 1, width, modes)
    )
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    fields, constants = torch.randn(batch, 1, n, n), torch.randn(batch, CONSTANTS)
    clock = time.perf_counter()
    for _ in range(2):
        optimiser.zero_grad(set_to_none=True)
        storages.clear()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = module(fields, constants).square().sum()
        saved = sum(storages.values())
        loss.backward()
        optimiser.step()
    return {
        "size": size,
        "kind": kind,
        "batch": batch,
        "saved": saved,
        "start": before,
        "peak": peak(),
        "weights": 4 * sum(p.numel() for p in module.parameters()),
        "seconds": time.perf_counter() - clock,
    }


def step(size: str, n: int, examples: int) -> dict[str, Any]:
    """Fit one step over ``examples`` with the model's own ``fit``, validate on 8, and predict them."""
    from pdebench_fm._util.memory import keep_freed_memory

    keep_freed_memory()
    import torch
    from pdefm_fno.model import FNO

    from pdebench_fm.api import load_examples
    from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
    from pdebench_fm.training.feed import Batch
    from pdebench_fm.training.micro_batches import micro_batch, saved_bytes

    width, modes, *_ = SIZES[size]
    train = load_examples("ood_sys1:SYS-1(1,5)", split="pretraining", count=examples, grid=n)
    validation = load_examples("ood_sys1:SYS-1(1,5)", split="validation", count=8, grid=n)
    model = FNO(width, modes)
    model.initialise(train.problem, train, 0)
    sample = Batch(torch.zeros(1, 1, n, n), torch.zeros(1, CONSTANTS), torch.zeros(1, 1, n, n))
    parts, saved = micro_batch(model.module, sample), saved_bytes(model.module, sample)
    with tempfile.TemporaryDirectory() as folder:
        budget, trial = Budget(None, 1, examples), TrialSettings({"learning_rate": 1e-4}, 0)
        report = model.fit(train, validation, budget, trial, FitContext(Path(folder)))
    inputs, _ = validation.batch(range(8))
    clock = time.perf_counter()
    prediction = model.predict(train.problem, inputs)["solution"]
    return {
        "size": size,
        "examples": examples,
        "micro_batch": parts,
        "saved": saved,
        "threads": torch.get_num_threads(),
        "fit_seconds": report.train_seconds,
        "predict_seconds": time.perf_counter() - clock,
        "finite": bool(prediction.isfinite().all()),
        "peak": peak(),
    }


def run(*arguments: object) -> dict[str, Any]:
    """Run one worker in a process of its own."""
    command = [sys.executable, __file__, "--worker", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode < 0:  # by the kernel, as a rule, for want of memory
        sys.exit(f"{' '.join(command[3:])}: killed by signal {-done.returncode}; --largest takes smaller batches")
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def per_example(small: dict[str, Any], large: dict[str, Any]) -> tuple[float, float]:
    """Bytes that an example adds to what autograd keeps, and to the largest resident size."""
    examples = large["batch"] - small["batch"]
    return (large["saved"] - small["saved"]) / examples, (large["peak"] - small["peak"]) / examples


def peak_at_batch(small: dict[str, Any], large: dict[str, Any]) -> str:
    """The largest resident size at batch 128, GB; with ``≈`` where it is drawn out from smaller batches."""
    _, resident = per_example(small, large)
    whole = (large["peak"] + resident * (BATCH - large["batch"])) / GIGABYTE
    return f"{whole:.2f}" if large["batch"] == BATCH else f"≈ {whole:.1f}"


def table(sizes: list[str], n: int, largest: int) -> list[dict[str, Any]]:
    """Measure and print a row for each size and network; return the two processes of each, one after the other."""
    print(f"{n}², float32          saved/example  resident/example  weights, Adam   peak at batch {BATCH}")
    found = []
    for size in sizes:
        for kind in ("ours", "plain"):
            if (size, kind) in LEFT_OUT:
                continue
            most = largest if kind == "ours" else min(largest, PLAIN_BATCH)
            batches = [min(batch, most) for batch in SIZES[size][2:]]
            with ThreadPoolExecutor() as pool:  # side by side, since no time is taken
                one, two = pool.map(partial(run, "batch", size, kind, n), batches)
            saved, resident = (figure / 1e6 for figure in per_example(one, two))
            weights = 4 * one["weights"] / GIGABYTE
            figures = f"{saved:14.1f} MB{resident:15.1f} MB{weights:12.2f} GB{peak_at_batch(one, two):>18s} GB"
            print(f"{size:6s}{kind:10s}{figures}", flush=True)
            found += [one, two]
    return found


def main() -> None:
    if "--worker" in sys.argv:
        what, size, *rest = sys.argv[2:]
        found = worker(size, rest[0], *map(int, rest[1:])) if what == "batch" else step(size, *map(int, rest))
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=[s for s in SIZES if s != "256m"])
    parser.add_argument("--n", type=int, default=128, help="grid points a side")
    parser.add_argument("--largest", type=int, default=BATCH, help=f"batch of the table, at most; by default {BATCH}")
    parser.add_argument("--step", choices=list(SIZES), help="one step and an evaluation of this size, no table")
    parser.add_argument("--examples", type=int, default=BATCH, help="of that step")
    parser.add_argument("--json", action="store_true", help="save the figures under results/")
    options = parser.parse_args()
    sizes = [options.step] if options.step else options.sizes
    coarsest = 2 * max(SIZES[size][1] for size in sizes)
    if options.n < coarsest:
        parser.error(f"--n must be at least {coarsest} for the modes of {', '.join(sizes)}, got {options.n}")
    least = max(SIZES[size][2] for size in sizes)
    if not least < options.largest <= BATCH:
        parser.error(f"--largest must be from {least + 1} to {BATCH}, got {options.largest}")
    if options.step:
        results: Any = run("step", options.step, options.n, options.examples)
        fit, predict = results["fit_seconds"], results["predict_seconds"]
        print(
            f"{options.step}, {options.n}²: one step over {options.examples} examples, "
            f"at most {results['micro_batch']} at a time, and 8 validated: {fit:.0f} s; 8 predicted: {predict:.1f} s; "
            f"largest resident size {results['peak'] / GIGABYTE:.2f} GB"
        )
    else:
        results = table(options.sizes, options.n, options.largest)
    if options.json:
        from report import save

        save("fno_memory_step" if options.step else "fno_memory", vars(options), results)


if __name__ == "__main__":
    main()
