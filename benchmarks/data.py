"""How long an example takes: draw, realise + solve, and the two FFTs that no spectral solver can do without.

    OMP_NUM_THREADS=1 python benchmarks/data.py [--grid 128] [--batch 64] [--rounds 60] [--dtype float32] [--device cpu]

Everything is timed in turn within each round, so that a slow moment of the machine touches all of it. Printed are
medians and, in brackets, minima over the rounds, in milliseconds per example, with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from pdefm_spectral.advection_diffusion import AdvectionDiffusion, AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler
from pdefm_spectral.poisson import Poisson, PoissonSampler

from pdebench_fm.interfaces.pde_system import PDESystem
from pdebench_fm.interfaces.sampler import Sampler
from pdebench_fm.problem import Grid

CHUNK = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dtype, device, grid = getattr(torch, options.dtype), torch.device(options.device), Grid(options.grid)

    cases: list[tuple[str, PDESystem, Sampler]] = [
        ("SYS-1(1,5)", Poisson(grid), PoissonSampler((1, 5), data_seed=0, split="train")),
        ("SYS-2(0.2,1)", AdvectionDiffusion(grid), AdvectionDiffusionSampler((0.2, 1), data_seed=0, split="train")),
        (
            "SYS-2(2,5) exact",
            AdvectionDiffusion(grid),
            AdvectionDiffusionSampler((2, 5), "exact", data_seed=0, split="train"),
        ),
        ("SYS-3(1,10)", Helmholtz(grid), HelmholtzSampler((1, 10), data_seed=0, split="train")),
    ]
    ids = range(options.batch)
    work: dict[str, Callable[[], object]] = {}
    for name, system, sampler in cases:
        drawn = sampler.draw(ids)

        def make(system: PDESystem = system, sampler: Sampler = sampler, drawn: object = drawn) -> None:
            system.solve(sampler.realise(drawn, grid, device, dtype))  # type: ignore[arg-type]

        work[f"{name} draw"] = lambda sampler=sampler: sampler.draw(ids)
        work[f"{name} realise + solve"] = make
    fields = torch.randn(options.batch, grid.size, grid.size, device=device, dtype=dtype)

    def floor() -> None:
        pieces = fields.split(CHUNK) if device.type == "cpu" else [fields]
        for piece in pieces:
            torch.fft.irfft2(torch.fft.rfft2(piece), s=piece.shape[-2:])

    work["floor: rfft2 + irfft2"] = floor
    times: dict[str, list[float]] = {name: [] for name in work}
    for attempt in range(options.rounds + 1):
        for name, call in work.items():
            _synchronise(device)
            start = time.perf_counter()
            call()
            _synchronise(device)
            if attempt:  # the first round warms up
                times[name].append((time.perf_counter() - start) / options.batch * 1e3)
    print(
        f"ms per example: {options.grid}², {options.dtype}, {device}, batch {options.batch}, torch {torch.__version__}"
    )
    for name, values in times.items():
        print(f"{name:34s} {statistics.median(values):.4f}  ({min(values):.4f})")


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
