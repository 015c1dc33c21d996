"""Everything that only a GPU can show, in one call: first whether it is right, then how fast it is.

    python benchmarks/gpu.py [--device cuda] [--quick] [--compile] [--json] [--output FILE]

Without the package installed it needs torch, numpy, pluggy, pydantic and safetensors. Run it from the root of the
repository as

    PYTHONPATH=.:plugins python benchmarks/gpu.py

1. Correctness: network and gradients, data, and 50 training steps of the FNO and the U-Net on the device, against
   float64 (the steps: float32) on the CPU.
2. Data: examples a second on the device, and two FFTs.
3. What the training loop takes a step at 128².
4. Training steps (forward, backward, Adam) at 128², float32, TF32 off: the plain network and ours, run eagerly and as a
   CUDA graph, whose gradients are compared with those of an eager step. Beside ours the larger of the memory and the
   arithmetic floor of the step, from a measured copy and a measured matrix product on the same device. Peak memory.
   With ``--compile`` the plain network by torch.compile, too, last: compiling takes minutes.

A part that fails is recorded as failed, and the rest continues. The exit code is 1 if results differ by more than
rounding or could not be compared. Figures are saved after every part: to benchmarks/results/gpu.json with ``--json``,
to a file of your own with ``--output``. ``--device cpu --quick`` tries the script without a GPU; its figures then mean
nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pdefm_fno.model import FNO
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork
from pdefm_spectral.advection_diffusion import AdvectionDiffusion, AdvectionDiffusionSampler
from pdefm_spectral.helmholtz import Helmholtz, HelmholtzSampler
from pdefm_spectral.poisson import Poisson, PoissonSampler
from pdefm_unet.model import UNet
from report import RESULTS, environment
from step import differences
from torch import Tensor, nn

from pdebench_fm._util.files import replacing
from pdebench_fm.data.sampled import SampledExamples
from pdebench_fm.interfaces import Budget, FitContext, FitReport, OperatorModel, TrialSettings
from pdebench_fm.problem import Grid

Row = dict[str, Any]

N, CONSTANTS = 128, 3
SIZES = {"64K": (16, 4), "1M": (16, 16), "16M": (32, 32), "256M": (128, 32)}
"""Width and modes."""
BATCHES = {"64K": (8, 128), "1M": (8, 128), "16M": (8, 128), "256M": (8, 16)}
EAGER, GRAPHS, COMPILED = ("plain", "ours"), ("plain, CUDA graph", "ours, CUDA graph"), ("plain, compiled",)
LOOPS = ("64K", "16M")
MEGABYTES = {"64K": 43, "1M": 46, "16M": 109, "256M": 437}
"""Activations that must move per example, forward and backward, at 128² in float32 with ideal fusion; ours."""
PASSES = 10
"""Passes over the weights that a step cannot do without: read forward; read backward, for the gradient of what came in;
their own gradient written; Adam reads weight, gradient and both moments, and writes all but the gradient."""
ROUNDING = {"FNO": 1e-4, "data": 1e-4, "losses": 1e-2, "step": 1e-4}
"""Relative difference up to which a result is right, by the first word of its name."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", type=usable, default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--compile", action="store_true", help="also the plain network by torch.compile")
    parser.add_argument("--json", action="store_true", help="write the raw figures to benchmarks/results/gpu.json")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write them to this file instead")
    options = parser.parse_args()
    if options.output is not None and not options.output.absolute().parent.is_dir():
        parser.error(f"--output: there is no folder {options.output.absolute().parent}")
    path = options.output or (RESULTS / "gpu.json" if options.json else None)
    device, repeats = options.device, 2 if options.quick else 10
    prepare(device)
    settings = {"device": str(device), "quick": options.quick, "compile": options.compile}
    results: Row = {}
    content = {"benchmark": "gpu", "settings": settings, "environment": environment(), "results": results}

    def keep(part: str, found: Any) -> None:
        results[part] = found
        if path is not None:
            write(path, content)

    keep("correctness", correctness(device))
    keep("data", attempt("data", partial(data, device, 64 if options.quick else 2048)))
    keep("floors", attempt("floors", partial(floors, device)))
    loops: Row = {}
    for size in LOOPS[:1] if options.quick else LOOPS:
        loops[size] = attempt(f"loop, {size}", partial(loop, device, size, 2 if options.quick else 128))
        keep("loop", loops)
    attempt("freeing memory", partial(forget, device))  # for the processes of the steps
    rows: list[Row] = []
    kinds = [*EAGER, *(GRAPHS if device.type == "cuda" else ()), *(COMPILED if options.compile else ())]
    for kind in kinds:
        for size in ["64K"] if options.quick else SIZES:
            batches = (2,) if options.quick else BATCHES[size]
            cases = [{"size": size, "batch": batch, "kind": kind} for batch in batches]
            rows += apart(completed, cases, str(device), results["floors"], repeats)
            keep("steps", rows)
    wrong = mistakes(results)
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def usable(name: str) -> torch.device:
    """Return the device of this name, if torch can use it."""
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter from a torch that is built without CUDA
        raise argparse.ArgumentTypeError(f"cannot use {name!r}: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def prepare(device: torch.device) -> None:
    """Full float32 in products, and this device for streams and events, which belong to the current one."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda":
        torch.cuda.init()  # what counts memory does not do so by itself
        if device.index is not None:
            torch.cuda.set_device(device)


def write(path: Path, content: Row) -> None:
    """Save the figures there are, in one step: what kills the script must not leave half a file."""
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        file.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """The same with numbers that JSON cannot hold as text."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def attempt(name: str, work: Callable[[], Any]) -> Any:
    """Return what ``work`` does, or why it failed, which must not hide the rest."""
    try:
        return work()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        print(f"{name} failed: {reason.splitlines()[0][:200]}", flush=True)
        return {"failed": reason[:500]}


def apart(work: Callable[..., list[Row]], cases: list[Row], *arguments: Any) -> list[Row]:
    """Complete some rows of one size and kind by ``work`` in a fresh process: what fails there, on the device too,
    leaves nothing behind. If the process dies, each of its rows says so."""

    def submit() -> list[Row]:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(work, cases, *arguments).result()

    found = attempt(f"{cases[0]['size']}, {cases[0]['kind']}", submit)
    return found if isinstance(found, list) else [{**case, **found} for case in cases]


def mistakes(results: Row) -> list[str]:
    """Return a line for each comparison that shows more than rounding, or could not be made."""
    values = dict(results["correctness"])
    for row in results["steps"]:
        if "gradients differ" in row:
            values[f"step {row['size']}, batch {row['batch']}, {row['kind']}, gradients"] = row["gradients differ"]
    wrong = []
    for name, value in values.items():
        bound = ROUNDING[name.split()[0]]
        if isinstance(value, dict):
            wrong.append(f"{name}: {value['failed']}")
        elif not value <= bound:  # NaN, too
            wrong.append(f"{name} differs by {value:.1e}, more than {bound:.0e}")
    return wrong


def correctness(device: torch.device) -> dict[str, Any]:
    """Relative differences to what the CPU computes, by what is compared."""
    checks: dict[str, Callable[[], dict[str, float]]] = {
        **{f"FNO {size}": partial(network_differences, size, device) for size in ("64K", "16M")},
        **{f"data {name}": partial(data_differences, name, device) for name in systems(64)},
        "losses of fno-64k": partial(loss_differences, partial(FNO, 16, 4), device),
        "losses of unet": partial(loss_differences, UNet, device),
    }
    print("relative differences to float64 on the CPU (losses: to float32 there)")
    found: dict[str, Any] = {}
    for name, check in checks.items():
        parts = attempt(name, check)
        if "failed" in parts:
            found[name] = parts
            continue
        for part, value in parts.items():
            label = f"{name}, {part}"
            found[label] = value
            print(f"  {label:34s} {value:.1e}", flush=True)
    return found


def network_differences(size: str, device: torch.device) -> dict[str, float]:
    """Outputs and gradients of the FNO."""
    torch.manual_seed(0)
    return differences(*SIZES[size], N, device)


def data_differences(name: str, device: torch.device) -> dict[str, float]:
    """Solutions of 32 examples made on the device."""
    system, sampler = systems(64)[name]
    drawn = sampler.draw(range(32))
    inputs = sampler.realise(drawn, Grid(64), device, torch.float32)
    made = sampler.solve(system, drawn, inputs)["solution"]
    exact_inputs = sampler.realise(drawn, Grid(64), "cpu", torch.float64)
    return {"solution": difference(made, system.solve(exact_inputs)["solution"])}


def loss_differences(make: Callable[[], OperatorModel], device: torch.device) -> dict[str, float]:
    """The worst training loss of a short fit."""
    reports = [fit(make(), place, 64, 16, 16) for place in (torch.device("cpu"), device)]
    expected, got = (np.array([entry["train_loss"] for entry in report.history]) for report in reports)
    return {"50 steps": float(np.max(np.abs(got - expected) / expected))}  # numpy's, which keeps NaN


def difference(got: Tensor, expected: Tensor) -> float:
    """Norm of the difference relative to the norm, on the device of the first, in float64."""
    got = got.detach().double()
    expected = expected.detach().to(got.device, torch.float64)
    return float((got - expected).norm() / expected.norm())


def systems(n: int) -> dict[str, tuple[Any, Any]]:
    grid = Grid(n)
    return {
        "SYS-1(1,5)": (Poisson(grid), PoissonSampler((1, 5), data_seed=0, split="train")),
        "SYS-2(0.2,1)": (AdvectionDiffusion(grid), AdvectionDiffusionSampler((0.2, 1), data_seed=0, split="train")),
        "SYS-3(1,10)": (Helmholtz(grid), HelmholtzSampler((1, 10), data_seed=0, split="train")),
    }


def fit(model: OperatorModel, device: torch.device, n: int, examples: int, batch: int) -> FitReport:
    """50 steps through the shared loop; validated on only 8 examples."""
    system, sampler = systems(n)["SYS-1(1,5)"]
    train, validation = (SampledExamples(sampler, system, count, device) for count in (examples, 8))
    model.initialise(system.problem, train, 0)
    with tempfile.TemporaryDirectory() as folder:
        budget, trial = Budget(None, 50, batch), TrialSettings({"learning_rate": 1e-3}, 0)
        report = model.fit(train, validation, budget, trial, FitContext(Path(folder), str(device)))
    if report.status != "ok":
        raise ArithmeticError(f"the fit {report.status}: {report.reason}")
    return report


def loop(device: torch.device, size: str, batch: int) -> Row:
    """Seconds that the shared loop takes a step at 128², in a second fit: all that belongs to a fit, over its steps."""
    for _ in range(2):  # five epochs, so that choosing the epoch is as small a part as it is in a long fit
        report = fit(FNO(*SIZES[size]), device, N, 10 * batch, batch)
    seconds, reading = report.train_seconds / report.steps, report.data_seconds / report.steps
    print(
        f"{size}, batch {batch}: the loop takes {seconds * 1e3:.3f} ms a step, "
        f"{reading * 1e3:.3f} of them for examples",
        flush=True,
    )
    return {"batch": batch, "seconds": seconds, "data_seconds": reading}


def data(device: torch.device, count: int) -> dict[str, float]:
    """Milliseconds per example at 128²: realise and solve on the device; parameters are drawn once."""
    found = {}
    for name, (system, sampler) in systems(N).items():
        drawn = sampler.draw(range(count))

        def make(system: Any = system, sampler: Any = sampler, drawn: Any = drawn) -> None:
            sampler.solve(system, drawn, sampler.realise(drawn, Grid(N), device, torch.float32))

        found[name] = timed(make, device, 5) / count * 1e3
    planes = torch.randn(count, N, N, device=device)
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
    print(f"copy {bandwidth / 1e12:.2f} TB/s, float32 product {arithmetic / 1e12:.1f} TFLOP/s", flush=True)
    return {"bytes_per_second": bandwidth, "flops_per_second": arithmetic}


def operations(width: int, modes: int, n: int, depth: int = 4) -> float:
    """Floating-point operations of our network in matrix products, forward and backward, for one example.

    A product with weights takes as much again for either gradient; a transform has none but that of its field. The
    first layer transforms one channel and mixes it by 1×1 as one, and passes no gradient to the data. Left out: what
    is elementwise, the lift of a spectrum, and planes that are worked out again to save memory.
    """
    along_x = 2 * n * (2 * modes) * n * width
    along_y = 2 * (2 * modes + 2) * n * (2 * modes * width)
    transform = along_x + along_y
    mixing = 2 * (2 * modes * modes) * 2 * width * 2 * width
    pointwise = 2 * n * n * width**2
    head = 2 * n * n * (2 * width**2 + 2 * width)
    transforms = 2 * (2 * depth - 1) * transform + transform / width
    return transforms + 3 * (depth * mixing + (depth - 1) * pointwise + head) + 2 * pointwise / width


def completed(cases: list[Row], place: str, floor: Row, repeats: int, n: int = N) -> list[Row]:
    """Add to each row the time of its training step, or why there is none."""
    device = torch.device(place)
    prepare(device)
    rows = []
    for case in cases:
        label = f"{case['size']:>4}, batch {case['batch']:3d}, {case['kind']:18s}"
        found = attempt(label, partial(step, **case, device=device, floor=floor, repeats=repeats, n=n))
        rows.append({**case, **found})
        if "failed" not in found:
            share = f", the floor is {found['floor'] / found['seconds']:6.1%} of it" if "floor" in found else ""
            print(f"{label} {found['seconds'] * 1e3:9.3f} ms, {found['peak'] / 2**30:.2f} GiB{share}", flush=True)
    return rows


def step(size: str, batch: int, kind: str, device: torch.device, floor: Row, repeats: int, n: int) -> Row:
    """Time a training step of one size in one way of running it."""
    width, modes = SIZES[size]
    forget(device)
    torch.manual_seed(0)
    ours = kind.startswith("ours")
    with device:  # made where they are used: the largest has a gigabyte of weights
        network: nn.Module = (
            FourierNetwork(1, CONSTANTS, 1, width, modes) if ours else ReferenceNetwork(1 + CONSTANTS, 1, width, modes)
        )
        fields, constants = torch.randn(batch, 1, n, n), torch.randn(batch, CONSTANTS)
        target = torch.zeros_like(fields)
    called = torch.compile(network, dynamic=False) if kind in COMPILED else network
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-6, fused=True, capturable=kind in GRAPHS)

    def loss(through: Callable[..., Tensor] = network) -> Tensor:
        return (through(fields, constants) - target).square().sum() / batch

    def eager() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss(called).backward()
        optimiser.step()

    work = captured(eager) if kind in GRAPHS else eager
    row: Row = {"seconds": timed(work, device, repeats)}
    row["peak"] = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    if kind not in EAGER:
        compare = partial(gradient_difference, network, loss, work)
        row["gradients differ"] = attempt(f"{size}, batch {batch}, {kind}, gradients", compare)
    if ours and "failed" not in floor:
        weights = sum(parameter.numel() for parameter in network.parameters())
        moved = batch * MEGABYTES[size] * 1e6 + PASSES * 4 * weights
        row["memory floor"] = moved / floor["bytes_per_second"]
        row["floor"] = max(row["memory floor"], batch * operations(width, modes, n) / floor["flops_per_second"])
    return row


def forget(device: torch.device) -> None:
    """Give back what nothing uses any more, and count the peak anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def captured(work: Callable[[], object]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of ``work``; what it works on must live as long as the replay is used."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # what is allocated while warming up must not be part of the graph
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def gradient_difference(network: nn.Module, loss: Callable[[], Tensor], work: Callable[[], object]) -> float:
    """How far the gradients that a step leaves behind are from those of an eager pass at the same weights.

    Args:
        network: whose weights are put back to what they were before the step.
        loss: works out the loss eagerly.
        work: takes the step.

    Returns:
        the largest norm of a difference relative to the norm, over the parameters; NaN if one is.
    """
    parameters = list(network.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    work()
    got = [parameter.grad for parameter in parameters]
    with torch.no_grad():
        for parameter, value in zip(parameters, before, strict=True):
            parameter.copy_(value)
    wanted = torch.autograd.grad(loss(), parameters)
    found = [math.inf if mine is None else difference(mine, other) for mine, other in zip(got, wanted, strict=True)]
    return float(np.max(found))  # numpy's, which keeps NaN


def timed(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call, after three to warm up."""
    for _ in range(3):
        work()
    found = []
    for _ in range(repeats):
        if device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize(device)
            found.append(begin.elapsed_time(end) / 1e3)
        else:
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
