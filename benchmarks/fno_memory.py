"""Memory of a training step of the FNO at 128²: what an example holds for the backward pass, and the peak at batch 128.

    python benchmarks/fno_memory.py                    # every size, ours and the plain network: about three minutes
    python benchmarks/fno_memory.py --step 256m        # one step of the shared loop over 128 examples, an evaluation

Each figure comes from a process of its own. *Saved* counts the distinct storages that autograd keeps, but for the
weights; it is exact, and linear in the batch. *Resident* is the growth of the process's largest resident size, after
two steps, from one batch size to one twice as large; it holds what the allocator cannot reuse, too, and the peak at
batch 128 is drawn out from it. ``--step`` goes through the model's own ``fit``, as in ``pdefm run``, which accumulates
a batch in parts where it would need too much.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {"64k": (16, 4, 8), "1m": (16, 16, 8), "16m": (32, 32, 12), "256m": (128, 32, 6)}
"""Width, modes, and the smaller of the two batches, the other being twice as large: enough examples that the peak is
that of the activations, not of the optimiser's passes over the weights."""
CONSTANTS, BATCH, GIGABYTE = 3, 128, 1e9


def peak() -> int:
    """Return the largest resident size of this process so far, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def worker(size: str, kind: str, n: int, batch: int) -> dict[str, Any]:
    """Train two steps of ``batch`` examples."""
    import torch
    from pdefm_fno.network import FourierNetwork
    from pdefm_fno.reference import ReferenceNetwork
    from torch import Tensor, nn

    torch.manual_seed(0)
    width, modes, _ = SIZES[size]
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
    from pdebench_fm.memory import keep_freed_memory

    keep_freed_memory()
    import torch
    from pdefm_fno.model import FNO

    from pdebench_fm.api import load_examples
    from pdebench_fm.interfaces import Budget, FitContext, Trial
    from pdebench_fm.training.feed import Batch
    from pdebench_fm.training.micro_batches import micro_batch

    width, modes, _ = SIZES[size]
    train = load_examples("ood_sys1:SYS-1(1,5)", split="pretraining", count=examples, grid=n)
    validation = load_examples("ood_sys1:SYS-1(1,5)", split="validation", count=8, grid=n)
    model = FNO(width, modes)
    model.initialise(train.problem, train, 0)
    sample = Batch(torch.zeros(1, 1, n, n), torch.zeros(1, CONSTANTS), torch.zeros(1, 1, n, n))
    parts = micro_batch(model.module, sample)
    with tempfile.TemporaryDirectory() as folder:
        budget, trial = Budget(None, 1, examples, ()), Trial({"learning_rate": 1e-4}, 0)
        report = model.fit(train, validation, budget, trial, FitContext(Path(folder)))
    inputs, _ = validation.batch(range(8))
    clock = time.perf_counter()
    prediction = model.predict(train.problem, inputs)["solution"]
    return {
        "size": size,
        "examples": examples,
        "micro_batch": parts,
        "threads": torch.get_num_threads(),
        "fit_seconds": report.train_seconds,
        "predict_seconds": time.perf_counter() - clock,
        "finite": bool(prediction.isfinite().all()),
        "peak": peak(),
    }


def run(*arguments: object) -> dict[str, Any]:
    """Run one worker in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--worker", *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(sizes: list[str], n: int) -> list[dict[str, Any]]:
    """Measure and print a row for each size and network."""
    print(f"{n}², float32          saved/example  resident/example  weights, Adam   peak at batch {BATCH}")
    found = []
    for size in sizes:
        small = SIZES[size][2]
        for kind in ("ours", "plain"):
            one, two = (run("batch", size, kind, n, batch) for batch in (small, 2 * small))
            saved = (two["saved"] - one["saved"]) / small
            slope = (two["peak"] - one["peak"]) / small
            whole = two["peak"] + slope * (BATCH - 2 * small)
            figures = (saved / 1e6, slope / 1e6, 4 * one["weights"] / GIGABYTE, whole / GIGABYTE)
            print("{:6s}{:10s}{:14.1f} MB{:15.1f} MB{:12.2f} GB{:18.2f} GB".format(size, kind, *figures), flush=True)
            found += [one, two]
    return found


def main() -> None:
    if "--worker" in sys.argv:
        what, size, *rest = sys.argv[2:]
        found = worker(size, rest[0], *map(int, rest[1:])) if what == "batch" else step(size, *map(int, rest))
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--n", type=int, default=128, help="grid points a side")
    parser.add_argument("--step", choices=list(SIZES), help="one step and an evaluation of this size, no table")
    parser.add_argument("--examples", type=int, default=BATCH, help="of that step")
    parser.add_argument("--json", action="store_true", help="save the figures under results/")
    options = parser.parse_args()
    if options.step:
        results: Any = run("step", options.step, options.n, options.examples)
        fit, predict = results["fit_seconds"], results["predict_seconds"]
        print(
            f"{options.step}, {options.n}²: one step over {options.examples} examples, "
            f"at most {results['micro_batch']} at a time, and 8 validated: {fit:.0f} s; 8 predicted: {predict:.1f} s; "
            f"largest resident size {results['peak'] / GIGABYTE:.2f} GB"
        )
    else:
        results = table(options.sizes, options.n)
    if options.json:
        from report import save

        save("fno_memory_step" if options.step else "fno_memory", vars(options), results)


if __name__ == "__main__":
    main()
