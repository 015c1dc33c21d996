"""Everything that only a GPU can show, in one call: first whether it is right, then how fast it is.

    python benchmarks/gpu.py [--device cuda] [--quick] [--compile] [--json]

1. Correctness: network and gradients, data, and 50 training steps of the FNO and the U-Net on the device, against
   float64 (the steps: float32) on the CPU. The exit code is 1 where a difference is more than rounding.
2. Data: examples a second on the device, and the two FFTs alone.
3. Training steps (forward, backward, Adam) at 128², float32, TF32 off: the plain network and ours, run eagerly and as a
   CUDA graph; beside them the larger of the memory and the arithmetic floor of the step, from a measured copy and a
   measured matrix product on the same device. Peak memory of each. What the training loop takes beside the bare step.
4. With ``--compile`` the plain network by torch.compile, last: compiling takes minutes.

``--json`` saves what there is after every part, so that little is lost where time runs out. ``--device cpu --quick``
tries the script out where there is no GPU; its figures then mean nothing.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from fno_step import differences
from pdefm_fno.model import FNO
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork
from pdefm_spectral.advection_diffusion import AdvectionDiffusion, AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler
from pdefm_spectral.poisson import Poisson, PoissonSampler
from pdefm_unet.model import UNet
from report import save
from torch import Tensor, nn

from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.interfaces import Budget, FitContext, FitReport, OperatorModel, Trial
from pdebench_fm.problem import Grid

SIZES = {"64K": (16, 4), "1M": (16, 16), "16M": (32, 32), "256M": (128, 32)}
BATCHES = {"64K": (8, 128), "1M": (8, 128), "16M": (8, 128), "256M": (8, 16)}
MEGABYTES = {"64K": 43, "1M": 46, "16M": 109, "256M": 437}
"""Activations that must move per example, forward and backward, at 128² in float32 with ideal fusion."""


EAGER, GRAPHS, COMPILED = ("plain", "ours"), ("plain, CUDA graph", "ours, CUDA graph"), ("plain, compiled",)
ROUNDING = {"FNO": 1e-4, "data": 1e-4, "losses": 1e-2}
"""Relative difference up to which a result is right, by the first word of its name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--compile", action="store_true", help="also the plain network by torch.compile")
    parser.add_argument("--json", action="store_true", help="write the raw figures to benchmarks/results/gpu.json")
    options = parser.parse_args()
    device = torch.device(options.device)
    results: dict[str, Any] = {}

    def keep(part: str, found: Any) -> None:
        results[part] = found
        if options.json:
            save("gpu", vars(options), finite(results))

    exact_float32()
    keep("correctness", correctness(device))
    keep("data", data(device, 64 if options.quick else 2048))
    keep("floors", floors(device))
    sizes = ["64K"] if options.quick else list(SIZES)
    repeats = 2 if options.quick else 10
    rows: list[dict[str, Any]] = []
    kinds = [*EAGER, *(GRAPHS if device.type == "cuda" else ()), *(COMPILED if options.compile else ())]
    for kind in kinds:
        for size in sizes:
            for batch in (2,) if options.quick else BATCHES[size]:
                rows.append(apart(step, str(device), size, batch, kind, results["floors"], repeats))
                keep("steps", rows)
    keep("loop", {size: loop(device, size, 2 if options.quick else 128) for size in sizes[:3:2]})
    wrong = [name for name, value in results["correctness"].items() if not value <= ROUNDING[name.split()[0]]]
    for name in wrong:
        print(f"WRONG: {name} differs by {results['correctness'][name]:.1e}")
    return 1 if wrong else 0


def exact_float32() -> None:
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def finite(value: Any) -> Any:
    """The same with numbers that JSON cannot hold as text."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def apart(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Do some work in a fresh process: what fails there, on the device too, leaves nothing behind."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def correctness(device: torch.device) -> dict[str, float]:
    """Relative differences to float64 on the CPU."""
    found = {}
    for name, (width, modes) in {"64K": (16, 4), "16M": (32, 32)}.items():
        torch.manual_seed(0)
        for part, value in differences(argparse.Namespace(n=128, device=device), width, modes)["ours"].items():
            found[f"FNO {name}, {part}"] = value
    for name, (system, sampler) in systems(64).items():
        drawn = sampler.draw(range(32))
        inputs = sampler.realise(drawn, Grid(64), device, torch.float32)
        made = sampler.solve(system, drawn, inputs)["solution"]
        exact_inputs = sampler.realise(drawn, Grid(64), "cpu", torch.float64)
        found[f"data {name}"] = difference(made, system.solve(exact_inputs)["solution"])
    for name, make in {"fno-64k": lambda: FNO(16, 4), "unet": UNet}.items():
        reports = [fit(make(), place, 64, 16, 16) for place in (torch.device("cpu"), device)]
        losses = [[float(entry["train_loss"]) for entry in report.history] for report in reports]
        found[f"losses of 50 steps, {name}"] = max(abs(a - b) / a for a, b in zip(*losses, strict=True))
    print("relative differences to float64 on the CPU (losses: to float32 there)")
    for name, value in found.items():
        print(f"  {name:34s} {value:.1e}", flush=True)
    return found


def difference(got: Tensor, expected: Tensor) -> float:
    got, expected = got.detach().cpu().double(), expected.detach().cpu().double()
    return float((got - expected).norm() / expected.norm())


def systems(n: int) -> dict[str, tuple[Any, Any]]:
    grid = Grid(n)
    return {
        "SYS-1(1,5)": (Poisson(grid), PoissonSampler((1, 5), data_seed=0, split="train")),
        "SYS-2(0.2,1)": (AdvectionDiffusion(grid), AdvectionDiffusionSampler((0.2, 1), data_seed=0, split="train")),
        "SYS-3(1,10)": (Helmholtz(grid), HelmholtzSampler((1, 10), data_seed=0, split="train")),
    }


def fit(model: OperatorModel, device: torch.device, n: int, examples: int, batch: int) -> FitReport:
    """50 steps through the shared loop."""
    system, sampler = systems(n)["SYS-1(1,5)"]
    train = SampledExamples(sampler, system, examples, device)
    model.initialise(system.problem, train, 0)
    with tempfile.TemporaryDirectory() as folder:
        budget, trial = Budget(None, 50, batch, ()), Trial({"learning_rate": 1e-3}, 0)
        return model.fit(train, train, budget, trial, FitContext(Path(folder), str(device)))


def loop(device: torch.device, size: str, batch: int) -> float:
    """Seconds that the shared loop takes a step at 128², in a second fit: all that belongs to a fit, over its steps."""
    width, modes = SIZES[size]
    for _ in range(2):
        report = fit(FNO(width, modes), device, 128, 2 * batch, batch)
    print(
        f"{size}, batch {batch}: the loop takes {report.train_seconds / report.steps * 1e3:.3f} ms a step", flush=True
    )
    return report.train_seconds / report.steps


def data(device: torch.device, count: int) -> dict[str, float]:
    """Milliseconds per example at 128²: realise and solve on the device; parameters are drawn once."""
    found = {}
    for name, (system, sampler) in systems(128).items():
        drawn = sampler.draw(range(count))

        def make(system: Any = system, sampler: Any = sampler, drawn: Any = drawn) -> None:
            sampler.solve(system, drawn, sampler.realise(drawn, Grid(128), device, torch.float32))

        found[name] = timed(make, device, 5) / count * 1e3
    planes = torch.randn(count, 128, 128, device=device)
    found["two FFTs alone"] = timed(lambda: torch.fft.irfft2(torch.fft.rfft2(planes)), device, 5) / count * 1e3
    print("milliseconds per example at 128²")
    for name, value in found.items():
        print(f"  {name:28s} {value:.5f}", flush=True)
    return found


def floors(device: torch.device) -> dict[str, float]:
    """Bytes a second of a copy (read and write), and floating-point operations a second of a float32 product."""
    side = 8192 if device.type == "cuda" else 1024
    plane, other = torch.randn(side, side, device=device), torch.empty(side, side, device=device)
    bandwidth = 2 * plane.numel() * 4 / timed(lambda: other.copy_(plane), device, 20)
    arithmetic = 2 * side**3 / timed(lambda: torch.mm(plane, plane, out=other), device, 5)
    print(f"copy {bandwidth / 1e12:.2f} TB/s, float32 product {arithmetic / 1e12:.1f} TFLOP/s")
    return {"bytes_per_second": bandwidth, "flops_per_second": arithmetic}


def step(place: str, size: str, batch: int, kind: str, floor: dict[str, float], repeats: int) -> dict[str, Any]:
    """Time a training step of one size in one way of running it."""
    exact_float32()
    device = torch.device(place)
    width, modes = SIZES[size]
    torch.manual_seed(0)
    first = FourierNetwork(1, 3, 1, width, modes)
    fields, constants = torch.randn(batch, 1, 128, 128).to(device), torch.randn(batch, 3).to(device)
    weights = sum(p.numel() for p in first.parameters())
    moved = batch * MEGABYTES[size] * 1e6 + 7 * 4 * weights  # Adam: 4 reads, 3 writes
    memory = moved / floor["bytes_per_second"]
    arithmetic = batch * operations(width, modes, 128) / floor["flops_per_second"]
    least = max(memory, arithmetic)
    row: dict[str, Any] = {"size": size, "batch": batch, "kind": kind, "memory floor": memory, "floor": least}
    label = f"{size:>4}, batch {batch:3d}, {kind:18s}"
    network: nn.Module = ReferenceNetwork.of(first) if kind.startswith("plain") else first
    network.to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = timed(training_step(network, fields, constants, kind), device, repeats)
    except Exception as error:  # one way of running must not hide the others
        print(f"{label} failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
        return {**row, "failed": f"{type(error).__name__}: {error}"[:500]}
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    print(f"{label} {seconds * 1e3:9.3f} ms, {least / seconds:6.1%} of the floor, {peak / 2**30:.2f} GiB", flush=True)
    return {**row, "seconds": seconds, "peak": peak}


def operations(width: int, modes: int, n: int, depth: int = 4) -> float:
    """Floating-point operations of one example, forward and backward (twice the forward): truncated transforms as
    matrix products, mixing, 1×1 convolutions and the head."""
    along_x = 2 * n * n * 2 * modes * width
    along_y = 2 * 2 * n * 4 * modes * modes * width
    mixing = 8 * 2 * modes * modes * width**2
    pointwise = 2 * n * n * width**2
    head = 2 * n * n * (2 * width**2 + 2 * width)
    return 3 * (depth * (2 * (along_x + along_y) + mixing + pointwise) + head)


def training_step(network: nn.Module, fields: Tensor, constants: Tensor, kind: str) -> Callable[[], object]:
    """Return a function that takes one step; ``kind`` says how it is run."""
    target = torch.zeros_like(fields)
    graphed = kind.endswith("CUDA graph")
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-6, fused=True, capturable=graphed)
    called = torch.compile(network, dynamic=False) if kind.endswith("compiled") else network

    def eager() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = (called(fields, constants) - target).square().sum() / len(fields)
        loss.backward()
        optimiser.step()

    if not graphed:
        return eager
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated while warming up must not be part of the graph
        for _ in range(3):
            eager()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        eager()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    graph.replay()
    got = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), before, strict=True):
            parameter.copy_(value)
    wanted = torch.autograd.grad(
        (network(fields, constants) - target).square().sum() / len(fields), list(network.parameters())
    )
    worst = max(difference(mine, other) for mine, other in zip(got, wanted, strict=True))
    if not worst < 1e-4:
        raise ValueError(f"a replay's gradients differ by {worst:.1e} from those of an eager step")

    def replay(held: object = optimiser) -> None:  # its moments live as long as the graph writes to them
        graph.replay()

    return replay


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call, after three to warm up."""
    for _ in range(3):
        work()
    found = []
    for _ in range(repeats):
        if device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()  # type: ignore[no-untyped-call]
            work()
            end.record()  # type: ignore[no-untyped-call]
            torch.cuda.synchronize(device)
            found.append(begin.elapsed_time(end) / 1e3)  # type: ignore[no-untyped-call]
        else:
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
