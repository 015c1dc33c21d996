"""Everything that only a GPU can show, in one call: first whether it is right, then how fast it is.

    python benchmarks/gpu.py [--device cuda] [--quick] [--json]

1. Correctness: network, gradients, data and 50 training steps on the device against float64 on the CPU.
2. Data: examples a second on the device, and the two FFTs alone.
3. Training steps (forward, backward, Adam) at 128², float32, TF32 off: the plain network and ours, run eagerly, by
   torch.compile and as a CUDA graph; beside them the larger of the memory and the arithmetic floor of the step, from a
   measured copy and a measured matrix product on the same device. Peak memory of each.

``--device cpu --quick`` tries the script out where there is no GPU; its figures then mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pdefm_fno.model import FNO
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork
from pdefm_spectral.advection_diffusion import AdvectionDiffusion, AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler
from pdefm_spectral.poisson import Poisson, PoissonSampler
from report import save
from torch import Tensor, nn

from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.interfaces import Budget, FitContext, Trial
from pdebench_fm.problem import Grid

SIZES = {"64K": (16, 4), "1M": (16, 16), "16M": (32, 32), "256M": (128, 32)}
BATCHES = {"64K": (8, 128), "1M": (8, 128), "16M": (8, 128), "256M": (8, 16)}
MEGABYTES = {"64K": 43, "1M": 46, "16M": 109, "256M": 437}
"""Activations that must move per example, forward and backward, at 128² in float32 with ideal fusion."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--json", action="store_true", help="write the raw figures to benchmarks/results/gpu.json")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    results: dict[str, Any] = {"correctness": correctness(device)}
    results["data"] = data(device, 64 if options.quick else 2048)
    results["floors"] = floors(device)
    results["steps"] = []
    for size in ["64K"] if options.quick else SIZES:
        for batch in (2,) if options.quick else BATCHES[size]:
            results["steps"].extend(steps(device, size, batch, results["floors"], 2 if options.quick else 10))
    if options.json:
        save("gpu", vars(options), results)


def correctness(device: torch.device) -> dict[str, float]:
    """Relative differences to float64 on the CPU."""
    found = {}
    for name, (width, modes) in {"64K": (16, 4), "16M": (32, 32)}.items():
        torch.manual_seed(0)
        network = FourierNetwork(1, 3, 1, width, modes)
        fields, constants = torch.randn(4, 1, 128, 128), torch.randn(4, 3)
        exact = ReferenceNetwork.of(network).double()
        expected, slopes = outputs_and_gradients(exact, fields.double(), constants.double())
        network.to(device)
        got, mine = outputs_and_gradients(network, fields.to(device), constants.to(device))
        found[f"outputs {name}"] = difference(got, expected)
        # The lift is the one weight with the same layout in both.
        found[f"gradient of the lift {name}"] = difference(mine, slopes.view_as(mine))
    for name, (system, sampler) in systems(64).items():
        drawn = sampler.draw(range(32))
        inputs = sampler.realise(drawn, Grid(64), device, torch.float32)
        made = sampler.solve(system, drawn, inputs)["solution"]
        exact_inputs = sampler.realise(drawn, Grid(64), "cpu", torch.float64)
        found[f"data {name}"] = difference(made, system.solve(exact_inputs)["solution"])
    losses = [training_losses(place) for place in (torch.device("cpu"), device)]
    found["losses of 50 steps"] = max(abs(a - b) / a for a, b in zip(*losses, strict=True))
    print("relative differences to float64 on the CPU (losses: to float32 there)")
    for name, value in found.items():
        print(f"  {name:28s} {value:.1e}")
    return found


def outputs_and_gradients(network: nn.Module, fields: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
    result = network(fields, constants)
    result.square().sum().backward()
    return result.detach(), network.lift.weight.grad.detach()  # type: ignore[union-attr, return-value]


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


def training_losses(device: torch.device) -> list[float]:
    """50 steps of fno-64k at 64² through the shared loop, one epoch each."""
    system, sampler = systems(64)["SYS-1(1,5)"]
    train = SampledExamples(sampler, system, 16, device)
    model = FNO(16, 4)
    model.initialise(system.problem, train, 0)
    with tempfile.TemporaryDirectory() as folder:
        budget, trial = Budget(50, None, 16, ()), Trial({"learning_rate": 1e-3}, 0)
        report = model.fit(train, train, budget, trial, FitContext(Path(folder), str(device)))
    return [float(entry["train_loss"]) for entry in report.history]


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
        print(f"  {name:28s} {value:.5f}")
    return found


def floors(device: torch.device) -> dict[str, float]:
    """Bytes a second of a copy (read and write), and floating-point operations a second of a float32 product."""
    side = 8192 if device.type == "cuda" else 1024
    plane, other = torch.randn(side, side, device=device), torch.empty(side, side, device=device)
    bandwidth = 2 * plane.numel() * 4 / timed(lambda: other.copy_(plane), device, 20)
    arithmetic = 2 * side**3 / timed(lambda: torch.mm(plane, plane, out=other), device, 5)
    print(f"copy {bandwidth / 1e12:.2f} TB/s, float32 product {arithmetic / 1e12:.1f} TFLOP/s")
    return {"bytes_per_second": bandwidth, "flops_per_second": arithmetic}


def steps(device: torch.device, size: str, batch: int, floor: dict[str, float], repeats: int) -> list[dict[str, Any]]:
    """Time a training step of one size in every way of running it."""
    width, modes = SIZES[size]
    first = FourierNetwork(1, 3, 1, width, modes)
    fields, constants = torch.randn(batch, 1, 128, 128, device=device), torch.randn(batch, 3, device=device)
    moved = batch * MEGABYTES[size] * 1e6 + 7 * 4 * sum(
        p.numel() for p in first.parameters()
    )  # Adam: 4 reads, 3 writes
    memory = moved / floor["bytes_per_second"]
    arithmetic = batch * operations(width, modes, 128) / floor["flops_per_second"]
    least = max(memory, arithmetic)
    print(f"{size}, batch {batch}: floors: memory {memory * 1e3:.3f} ms, arithmetic {arithmetic * 1e3:.3f} ms")
    rows = []
    for kind in ("plain", "ours", "plain compiled", "ours compiled", "ours, CUDA graph"):
        if device.type != "cuda" and kind not in ("plain", "ours"):
            continue
        network: nn.Module = ReferenceNetwork.of(first) if kind.startswith("plain") else copy_of(first)
        network.to(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            step = training_step(network, fields, constants, kind)
            seconds = timed(step, device, repeats)
        except Exception as error:  # one way of running must not hide the others
            print(f"  {kind:18s} failed: {type(error).__name__}: {str(error).splitlines()[0]}")
            rows.append({"size": size, "batch": batch, "kind": kind, "failed": str(error)[:500]})
            continue
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        print(f"  {kind:18s} {seconds * 1e3:9.3f} ms, {least / seconds:6.1%} of the floor, {peak / 2**30:.2f} GiB")
        rows.append({"size": size, "batch": batch, "kind": kind, "seconds": seconds, "floor": least, "peak": peak})
        del step, network
    return rows


def copy_of(network: FourierNetwork) -> FourierNetwork:
    made = FourierNetwork(1, 3, 1, network.width, network.modes)
    made.load_state_dict(network.state_dict())
    return made


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
    called = torch.compile(network) if kind.endswith("compiled") else network

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = (called(fields, constants) - target).square().sum() / len(fields)
        loss.backward()
        optimiser.step()

    if not graphed:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated while warming up must not be part of the graph
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


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
    main()
