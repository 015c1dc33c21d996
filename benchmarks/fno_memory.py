"""Memory of a training step of the FNO at 128²: what an example holds for the backward pass, and the peak at batch 128.

    python benchmarks/fno_memory.py                    # every size, ours and the plain network: about two minutes
    python benchmarks/fno_memory.py --step 256m        # one real step over 128 examples, and an evaluation

Each figure comes from a process of its own. *Saved* counts the distinct storages that autograd keeps, but for the
weights; it is exact, and linear in the batch. *Resident* is the growth of the process's largest resident size, after
two steps, from one batch size to one twice as large; it holds what the allocator cannot reuse, too, and the peak at
batch 128 is drawn out from it. A step over micro-batches adds up their gradients, so that it needs the memory of one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

SIZES = {"64k": (16, 4, 8), "1m": (16, 16, 8), "16m": (32, 32, 4), "256m": (128, 32, 2)}
"""Width, modes, and the smaller of the two batches, the other being twice as large."""
CONSTANTS, BATCH, GIGABYTE = 3, 128, 1e9


def peak() -> int:
    """Return the largest resident size of this process so far, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def worker(size: str, kind: str, n: int, batch: int, examples: int, evaluate: bool) -> dict[str, Any]:
    """Train two steps of ``examples`` in micro-batches of ``batch``; with ``evaluate`` one step, then an evaluation."""
    import torch
    from pdefm_fno.network import FourierNetwork
    from pdefm_fno.reference import ReferenceNetwork
    from torch import Tensor, nn

    torch.set_num_threads(1)
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
    saved, clock, losses = 0, time.perf_counter(), []
    for _ in range(1 if evaluate else 2):
        optimiser.zero_grad(set_to_none=True)
        for _ in range(0, examples, batch):
            storages.clear()
            with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
                loss = module(fields, constants).square().sum() / examples
            saved = sum(storages.values())
            loss.backward()
            losses.append(float(loss.detach()))
        optimiser.step()
    step_seconds = time.perf_counter() - clock
    evaluation = None
    if evaluate:
        with torch.no_grad():
            clock = time.perf_counter()
            loss = module(fields, constants).square().sum()
            evaluation = {"seconds": time.perf_counter() - clock, "examples": batch, "finite": bool(loss.isfinite())}
    return {
        "size": size,
        "kind": kind,
        "batch": batch,
        "examples": examples,
        "saved": saved,
        "start": before,
        "peak": peak(),
        "weights": 4 * sum(p.numel() for p in module.parameters()),
        "seconds": step_seconds,
        "evaluation": evaluation,
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
            one, two = (run(size, kind, n, batch, batch, 0) for batch in (small, 2 * small))
            saved = (two["saved"] - one["saved"]) / small
            slope = (two["peak"] - one["peak"]) / small
            whole = two["peak"] + slope * (BATCH - 2 * small)
            figures = (saved / 1e6, slope / 1e6, 4 * one["weights"] / GIGABYTE, whole / GIGABYTE)
            print("{:6s}{:10s}{:14.1f} MB{:15.1f} MB{:12.2f} GB{:18.2f} GB".format(size, kind, *figures), flush=True)
            found += [one, two]
    return found


def main() -> None:
    if "--worker" in sys.argv:
        size, kind, *numbers = sys.argv[2:]
        n, batch, examples, evaluate = map(int, numbers)
        print(json.dumps(worker(size, kind, n, batch, examples, bool(evaluate))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--n", type=int, default=128, help="grid points a side")
    parser.add_argument("--step", choices=list(SIZES), help="one real step and an evaluation of this size, no table")
    parser.add_argument("--examples", type=int, default=BATCH, help="of that step")
    parser.add_argument("--micro-batch", type=int, default=8, help="of that step and its evaluation")
    parser.add_argument("--json", action="store_true", help="save the figures under results/")
    options = parser.parse_args()
    if options.examples % options.micro_batch:
        parser.error(f"--examples {options.examples} must be a multiple of --micro-batch {options.micro_batch}")
    if options.step:
        found = run(options.step, "ours", options.n, options.micro_batch, options.examples, 1)
        print(
            f"{options.step}, {options.n}²: a step over {options.examples} examples in micro-batches of "
            f"{options.micro_batch}: {found['seconds']:.0f} s, then {options.micro_batch} evaluated in "
            f"{found['evaluation']['seconds']:.1f} s; largest resident size {found['peak'] / GIGABYTE:.2f} GB"
        )
        results: Any = found
    else:
        results = table(options.sizes, options.n)
    if options.json:
        from report import save

        save("fno_memory_step" if options.step else "fno_memory", vars(options), results)


if __name__ == "__main__":
    main()
