"""How long an example takes to make, against the two FFTs of a spectral solver and against a plain generator.

    OMP_NUM_THREADS=1 python benchmarks/data.py [--grid 128] [--batch 64] [--rounds 40] [--dtype float32]
                                                [--device cpu] [--json]

Per example: ``draw`` its parameters, ``realise`` its inputs, ``solve``; ``whole`` is all three. ``by FFT`` is the time
and error of the system's own solver in place of the sampler's. ``floor`` is one rfft2 and one irfft2 in chunks of 16.
``plain`` makes the same examples one at a time, Gaussian by Gaussian, in numpy and float64, as the paper describes
them; its time does not include the draws.

All parts take turns within each round, so a slow moment of the machine affects all of them. The tables show medians
and, in brackets, minima over the rounds; ratios are medians of the ratios within a round. One thread. The last line
compares a batch of 128 with a training step of the smallest FNO (64K).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pdefm_fno.network import FourierNetwork
from pdefm_spectral import sources
from pdefm_spectral.advection_diffusion import AdvectionDiffusion, AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler
from pdefm_spectral.poisson import Poisson, PoissonSampler
from report import ratio, save

from pdebench_fm._util.memory import keep_freed_memory
from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.interfaces import Parameters, PDESystem, Sampler
from pdebench_fm.problem import Fields, Grid

CHUNK = 16
TRAINING_BATCH, TRAINING_ROUNDS = 128, 4


@dataclass(frozen=True)
class Case:
    name: str
    system: PDESystem
    sampler: Sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="also write results/data.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the workers of `pdefm run` do
    dtype, device, grid = getattr(torch, options.dtype), torch.device(options.device), Grid(options.grid)
    cases = [
        Case("SYS-1(1,5)", Poisson(grid), PoissonSampler((1, 5), data_seed=0, split="train")),
        Case("SYS-2(0.2,1)", AdvectionDiffusion(grid), AdvectionDiffusionSampler((0.2, 1), data_seed=0, split="train")),
        Case(
            "SYS-2(2,5) exact",
            AdvectionDiffusion(grid),
            AdvectionDiffusionSampler((2, 5), "exact", data_seed=0, split="train"),
        ),
        Case("SYS-3(1,10)", Helmholtz(grid), HelmholtzSampler((1, 10), data_seed=0, split="train")),
    ]
    fields = torch.randn(options.batch, grid.size, grid.size, device=device, dtype=dtype)
    times: dict[str, dict[str, list[float]]] = {case.name: {} for case in cases}
    floor: list[float] = []
    for attempt in range(options.rounds + 1):
        ids = range(attempt * options.batch, (attempt + 1) * options.batch)
        taken = _milliseconds(lambda: _transforms(fields), device) / options.batch
        if attempt:  # the first round warms up
            floor.append(taken)
        for case in cases:
            for part, value in _round(case, ids, device, dtype).items():
                if attempt:
                    times[case.name].setdefault(part, []).append(value)
    errors = {case.name: _errors(case, options.batch, dtype) for case in cases}
    print(
        f"ms per example: {options.grid}², {options.dtype}, {device}, batch {options.batch}, torch {torch.__version__}"
    )
    print(f"floor: rfft2 + irfft2  {_figure(floor)}")
    for case in cases:
        parts = times[case.name]
        print(f"\n{case.name}")
        for part, values in parts.items():
            print(f"  {part:14s}{_figure(values)}")
        print(
            f"  whole: {ratio(parts['plain'], parts['whole']):.0f} times less than plain, "
            f"{ratio(parts['whole'], floor):.2f} times the floor"
        )
        print("  largest relative error to float64: " + ", ".join(f"{k} {v:.1e}" for k, v in errors[case.name].items()))
    training = _training(cases[0])
    share = ratio(training["batch"], training["step"])
    print(
        f"\nbatch of {TRAINING_BATCH}, {options.grid}²: {_figure(training['batch'])} ms to make, "
        f"{_figure(training['step'])} ms for a training step of the FNO 64K: {share:.1%} of it"
    )
    if options.json:
        results = {"floor": floor, "cases": times, "errors": errors, "training": training}
        print(f"wrote {save('data', vars(options), results)}")


def _round(case: Case, ids: range, device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Return milliseconds per example of every part."""
    sampler, system, grid = case.sampler, case.system, case.system.problem.grid

    def whole() -> Fields:
        drawn = sampler.draw(ids)
        return sampler.solve(system, drawn, sampler.realise(drawn, grid, device, dtype))

    drawn = sampler.draw(ids)
    inputs = sampler.realise(drawn, grid, device, dtype)
    work: dict[str, Callable[[], object]] = {
        "draw": lambda: sampler.draw(ids),
        "realise": lambda: sampler.realise(drawn, grid, device, dtype),
        "solve": lambda: sampler.solve(system, drawn, inputs),
        "solve by FFT": lambda: system.solve(inputs),
        "whole": whole,
    }
    times = {part: _milliseconds(call, device) / len(ids) for part, call in work.items()}
    times["plain"] = _milliseconds(lambda: _plain(drawn, 0, grid.size), device)
    return times


def _errors(case: Case, count: int, dtype: torch.dtype) -> dict[str, float]:
    """Return the largest relative 2-norm error of either way against float64 and FFT, on the CPU.

    ``plain`` is by how much the plain generator differs from that, to show that it makes the same examples: by
    rounding, and for SYS-2 by its derivatives at the Nyquist modes (5e-9 at 64²).
    """
    grid = case.system.problem.grid
    drawn = case.sampler.draw(range(count))
    inputs = case.sampler.realise(drawn, grid, "cpu", dtype)
    exact = case.system.solve(case.sampler.realise(drawn, grid, "cpu", torch.float64))["solution"]

    def error(solution: torch.Tensor, reference: torch.Tensor) -> float:
        distance = torch.linalg.vector_norm(solution.double() - reference, dim=(1, 2))
        return float((distance / torch.linalg.vector_norm(reference, dim=(1, 2))).max())

    first = torch.from_numpy(np.stack([_plain(drawn, row, grid.size) for row in range(4)]))
    return {
        "solve": error(case.sampler.solve(case.system, drawn, inputs)["solution"], exact),
        "by FFT": error(case.system.solve(inputs)["solution"], exact),
        "plain": error(first, exact[:4]),
    }


def _plain(drawn: Parameters, row: int, n: int) -> np.ndarray:
    """Return the solution of one example, (n, n), from the definition."""
    x, y = np.meshgrid(np.arange(n) / n, np.arange(n) / n)
    source = np.zeros((n, n))
    for index, weight in enumerate(drawn["weights"][row]):
        squares = (x - sources.CENTRES[index % sources.SIDE]) ** 2 + (y - sources.CENTRES[index // sources.SIDE]) ** 2
        source += weight * np.exp(-squares / (2 * sources.SIGMA**2))
    source *= drawn["scale"][row]
    if "mean" in drawn:
        source -= drawn["mean"][row]
    value = {name: float(values[row]) for name, values in drawn.items() if values.ndim == 1}
    kx, ky = np.meshgrid(2 * np.pi * np.fft.fftfreq(n, 1 / n), 2 * np.pi * np.fft.fftfreq(n, 1 / n))
    symbol = value["k11"] * kx**2 + value["k22"] * ky**2 + 2 * value["k12"] * kx * ky - value.get("omega", 0.0)
    if "v1" in value:
        symbol = symbol + 1j * (value["v1"] * kx + value["v2"] * ky)
    symbol[symbol == 0] = np.inf
    solution: np.ndarray = np.fft.ifft2(np.fft.fft2(source) / symbol).real
    return solution


def _transforms(fields: torch.Tensor) -> None:
    for piece in fields.split(CHUNK) if fields.device.type == "cpu" else [fields]:
        torch.fft.irfft2(torch.fft.rfft2(piece), s=piece.shape[-2:])


def _training(case: Case) -> dict[str, list[float]]:
    """Return milliseconds of making a batch on the CPU, its draw included, and of a training step of the FNO 64K."""
    torch.manual_seed(0)
    network = FourierNetwork(1, len(case.system.problem.constants), 1, 16, 4)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    times: dict[str, list[float]] = {"batch": [], "step": []}
    made: dict[str, Any] = {}

    def batch() -> None:
        examples = SampledExamples(case.sampler, case.system, TRAINING_BATCH)
        made["inputs"], made["outputs"] = examples.batch(range(TRAINING_BATCH))

    def step() -> None:
        inputs, target = made["inputs"], made["outputs"]["solution"][:, None]
        constants = torch.stack([inputs[name] for name in case.system.problem.constants], dim=1)
        optimiser.zero_grad(set_to_none=True)
        prediction = network(inputs["source"][:, None], constants)
        ((prediction - target).square().sum() / TRAINING_BATCH).backward()
        optimiser.step()

    for attempt in range(TRAINING_ROUNDS + 1):
        for name, call in (("batch", batch), ("step", step)):
            taken = _milliseconds(call, torch.device("cpu"))
            if attempt:
                times[name].append(taken)
    return times


def _milliseconds(call: Callable[[], object], device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    call()
    _synchronise(device)
    return (time.perf_counter() - start) * 1e3


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _figure(values: list[float]) -> str:
    return f"{statistics.median(values):.4f}  ({min(values):.4f})"


if __name__ == "__main__":
    main()
