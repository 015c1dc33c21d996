"""What a training step of the released architectures takes at their published sizes, with random weights.

    python benchmarks/released.py [--size published] [--device cuda] [--grid 128] [--family NAME]… [--json]

A step is forward, backward and AdamW in float32, on three constants and one field, through the adapter that a run uses.
For each size it prints parameters, seconds a step, examples a second, the memory of the weights with their gradients
and moments, the memory that each example adds, and the batch that fits into 24, 80 and 140 GB. Memory is measured on a
GPU only. A size that does not fit is recorded as failed, and the rest continues.

``--size tiny`` takes seconds on a CPU. It shows that the script works; its figures say nothing about the models.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from pdefm_released import dpot, morph, mpp, pde_transformer, pde_transformer_sc, poseidon
from report import save
from torch import nn

from pdebench_fm.problem import Channel, Grid, Problem

Row = dict[str, Any]
BATCHES = (1, 4)
"""Memory grows by the same amount with each example, so two batches tell it."""
ROOM = (24, 80, 140)
"""GB of GPUs."""
_FREE = 0.9
"""Share of the memory that a fit may use: allocators lose some."""


def _poseidon(width: int, depth: int) -> nn.Module:
    return poseidon.ScOT(
        poseidon.Sizes(128, 4, 4, 4, width, (depth,) * 4, (3, 6, 12, 24), (2, 2, 2, 0), 16)
    )  # fmt: skip


def _dpot(width: int, depth: int, blocks: int, mlp: int, out: int = 32) -> nn.Module:
    return dpot.DPOT(dpot.Sizes(128, 8, 4, 4, 10, 1, width, depth, blocks, 32, mlp, 35, out, 12))


def _mpp(width: int, heads: int, blocks: int) -> nn.Module:
    return mpp.AViT(mpp.Sizes(width, heads, blocks, 12))


def _morph(width: int, heads: int, depth: int, mlp: int, history: int = 1, size: str = "Ti") -> nn.Module:
    return morph.MORPH(morph.Sizes(8, width, depth, heads, 32, mlp, 3, 8, history, 4096, 3, size))


def _mixed(width: int, heads: int) -> nn.Module:
    sizes = pde_transformer.Sizes(2, 2, 4, 8, True, width, heads, (2, 5, 8, 5, 2), 4.0, 1000)
    return pde_transformer.PDETransformer(sizes)


def _separate(width: int, heads: int) -> nn.Module:
    sizes = pde_transformer.Sizes(2, 2, 4, 8, True, width, heads, (2, 5, 8, 5, 2), 4.0, 1000)
    return pde_transformer_sc.PDETransformerSC(sizes)


ADAPTERS = {
    "poseidon": poseidon.PoseidonAdapter,
    "dpot": dpot.DPOTAdapter,
    "mpp": mpp.MPPAdapter,
    "morph": morph.MORPHAdapter,
    "pde-transformer": pde_transformer.PDETransformerAdapter,
    "pde-transformer-sc": pde_transformer_sc.SeparateAdapter,
}
PUBLISHED: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "poseidon": {
        "T": lambda: _poseidon(48, 4),
        "B": lambda: _poseidon(96, 8),
        "L": lambda: _poseidon(192, 8),
    },
    "dpot": {
        "Ti": lambda: _dpot(512, 4, 4, 512),
        "S": lambda: _dpot(1024, 6, 8, 1024),
        "M": lambda: _dpot(1024, 12, 8, 4096),
        "L": lambda: _dpot(1536, 24, 16, 6144, 128),
        "H": lambda: _dpot(2048, 27, 8, 8092),
    },
    "mpp": {
        "Ti": lambda: _mpp(192, 3, 12),
        "S": lambda: _mpp(384, 6, 12),
        "B": lambda: _mpp(768, 12, 12),
        "L": lambda: _mpp(1024, 16, 24),
    },
    "morph": {
        "Ti": lambda: _morph(256, 4, 4, 1024),
        "S": lambda: _morph(512, 8, 4, 2048),
        "M": lambda: _morph(768, 12, 8, 3072),
        "L": lambda: _morph(1024, 16, 16, 4096, 16, "L"),
    },
    "pde-transformer": {"S": lambda: _mixed(96, 4), "B": lambda: _mixed(192, 8), "L": lambda: _mixed(384, 16)},
    "pde-transformer-sc": {
        "S": lambda: _separate(96, 4),
        "B": lambda: _separate(192, 8),
        "L": lambda: _separate(384, 16),
    },
}
_SMALL = pde_transformer.Sizes(2, 2, 2, 4, True, 8, 2, (1, 1, 1), 1.0, 5)
TINY: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "poseidon": {
        "tiny": lambda: poseidon.ScOT(poseidon.Sizes(16, 4, 4, 4, 8, (1, 1), (2, 2), (0, 0), 4, 2.0)),
    },
    "dpot": {"tiny": lambda: dpot.DPOT(dpot.Sizes(16, 8, 4, 4, 2, 1, 16, 1, 2, 4, 16, 11, 6, 3))},
    "mpp": {"tiny": lambda: mpp.AViT(mpp.Sizes(16, 2, 1, 12))},
    "morph": {"tiny": lambda: morph.MORPH(morph.Sizes(8, 16, 1, 2, 4, 32, 3, 8, 1, 48, 3))},
    "pde-transformer": {"tiny": lambda: pde_transformer.PDETransformer(_SMALL)},
    "pde-transformer-sc": {"tiny": lambda: pde_transformer_sc.PDETransformerSC(_SMALL)},
}


def main(arguments: list[str] | None = None) -> int:
    """Print a line for each size; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("published", "tiny"), default="published")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--grid", type=int, help="points a side; 128, or 16 for tiny sizes")
    parser.add_argument("--family", action="append", choices=ADAPTERS, help="only this family; may be repeated")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps, of which the median counts")
    parser.add_argument("--json", action="store_true", help="write the raw figures to benchmarks/results/released.json")
    options = parser.parse_args(arguments)
    networks = PUBLISHED if options.size == "published" else TINY
    grid = options.grid or (128 if options.size == "published" else 16)
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("highest")
    rows: list[Row] = []
    print(f"{'':26}{'weights':>14}{'s a step':>10}{'examples/s':>12}{'fixed':>9}{'each':>9}   batch in {ROOM} GB")
    for family in options.family or ADAPTERS:
        for size, build in networks[family].items():
            rows.append(
                {"family": family, "size": size, "grid": grid, **_measured(family, build, grid, device, options)}
            )
            print(_line(rows[-1]), flush=True)
    if options.json:
        settings = {"size": options.size, "device": str(device), "grid": grid, "repeats": options.repeats}
        print(save("released", settings, rows))
    return 1 if any("failed" in row for row in rows) else 0


def _measured(
    family: str, build: Callable[[], nn.Module], grid: int, device: torch.device, options: argparse.Namespace
) -> Row:
    found: Row = {"steps": []}
    try:
        for batch in BATCHES:
            found |= _step(family, build, grid, device, batch, options.repeats, found["steps"])
    except RuntimeError as error:  # out of memory is one
        found["failed"] = str(error).splitlines()[0]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    peaks = [step["peak_bytes"] for step in found["steps"] if step["peak_bytes"]]
    if len(peaks) == len(BATCHES):
        each = (peaks[1] - peaks[0]) / (BATCHES[1] - BATCHES[0])
        fixed = peaks[0] - BATCHES[0] * each
        found |= {"fixed_bytes": fixed, "bytes_per_example": each}
        found["batch"] = {room: max(0, int((_FREE * room * 1e9 - fixed) / each)) for room in ROOM} if each > 0 else {}
    return found


def _step(
    family: str,
    build: Callable[[], nn.Module],
    grid: int,
    device: torch.device,
    batch: int,
    repeats: int,
    steps: list[Row],
) -> Row:
    """Time steps of one batch and add them to ``steps``; return what does not depend on the batch."""
    constants = tuple(Channel(name, "constant") for name in ("k11", "k22", "k12"))
    problem = Problem((Channel("source"), *constants), (Channel("solution"),), Grid(grid), homogeneous=True)
    torch.manual_seed(0)
    network = ADAPTERS[family](build(), problem).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5)
    fields, target = (torch.randn(batch, 1, grid, grid, device=device) for _ in range(2))
    numbers = torch.rand(batch, len(constants), device=device)
    seconds = []
    for number in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        optimizer.zero_grad()
        (network(fields, numbers) - target).square().mean().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number:  # the first step also chooses kernels and makes the moments
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    steps.append({"batch": batch, "seconds": seconds, "peak_bytes": peak})
    return {"parameters": sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())}


def _line(row: Row) -> str:
    name = f"{row['family']} {row['size']}, {row['grid']}²"
    if "failed" in row:
        return f"{name:26}failed: {row['failed']}"
    last = row["steps"][-1]
    seconds = statistics.median(last["seconds"])
    memory = [f"{row[key] / 1e9:.2f} GB" if key in row else "–" for key in ("fixed_bytes", "bytes_per_example")]
    batches = ", ".join(map(str, row["batch"].values())) if "batch" in row else "–"
    speed = f"{seconds:>10.3f}{last['batch'] / seconds:>12.1f}"
    return f"{name:26}{row['parameters']:>14,}{speed}{memory[0]:>9}{memory[1]:>9}   {batches}"


if __name__ == "__main__":
    sys.exit(main())
