"""One training step of the FNO (forward, backward, Adam), against the plain layer and neuraloperator, interleaved.

    python benchmarks/fno_step.py                        # 64K, 1M and 16M at 128², two threads: about two minutes
    python benchmarks/fno_step.py --sizes 64k --n 64     # one size on another grid
    python benchmarks/fno_step.py --apart 2              # two processes of one thread, as in `pdefm run`
    python benchmarks/fno_step.py --batch 128            # other batches than 8; the paper's needs some 14 GB for 16M
    python benchmarks/fno_step.py --json                 # also saves every round

Processes that run side by side are not in step: each meets the other in any of the networks. For each size:
milliseconds of a step, examples a second, how many times faster than the plain network (by FFT, NCHW) each is, and the
same with one piece of ours exchanged. Networks have the same weights, but for neuraloperator's, which has the same
number of them; it comes with the optional extra ``peers`` and is left out where it is not installed. All keep freed
memory and use fused Adam where it can be used (not for neuraloperator's complex weights). Beside the speed, the largest
difference of outputs and gradients from the plain network in float64, relative to the largest value.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from by_fft import by_fft
from pdefm_fno import activation, network
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork
from pdefm_fno.spectral_convolution import analyse
from report import ratio, save
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm._util.memory import keep_freed_memory

SIZES = {"64k": (16, 4, 8), "1m": (16, 16, 8), "16m": (32, 32, 8)}
"""Width, modes, batch."""
CONSTANTS = 3

Step = Callable[[], None]


def neuraloperator(width: int, modes: int) -> nn.Module | None:
    """Return neuraloperator's FNO with as many weights as ours, or None where it cannot be imported.

    It keeps all of the first count of modes and, of the second, half plus one: (2m, 2m − 1) are ours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from neuralop.models import FNO
    except ImportError as error:
        print(f"neuraloperator is left out: {error}")
        return None
    made: nn.Module = FNO(
        n_modes=(2 * modes, 2 * modes - 1),
        in_channels=1 + CONSTANTS,
        out_channels=1,
        hidden_channels=width,
        n_layers=4,
        lifting_channel_ratio=0,
        projection_channel_ratio=2,
        positional_embedding=None,
        use_channel_mlp=False,
        channel_mlp_skip=None,
        fno_skip="linear",
    )
    return made


def training_step(module: nn.Module, call: Callable[[], Tensor], target: Tensor, fused: bool = True) -> Step:
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-6, fused=fused)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = (call() - target).square().sum() / len(target)
        loss.backward()
        optimiser.step()
        loss.item()  # waits for a GPU

    return step


def unfused_activate(field: Tensor, m: int) -> tuple[Tensor, Tensor]:
    active = functional.gelu(field)
    return active, analyse(active, m)


def unfused_project(field: Tensor, expand: nn.Linear, contract: nn.Linear) -> Tensor:
    return contract(functional.gelu(expand(field)))


KEPT, REDONE = "ours, projection's planes kept", "ours, projection's planes redone"

WITHOUT: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
    "ours, transforms by FFT": by_fft,
    "ours, batch in one chunk": lambda: mock.patch.object(network, "CHUNK", 2**62),
    "ours, autograd's GELU": lambda: mock.patch.object(network, "activate", unfused_activate),
    "ours, autograd's projection": lambda: mock.patch.object(network, "project", unfused_project),
    KEPT: lambda: mock.patch.object(activation, "KEPT_WIDTH", 2**62),
    REDONE: lambda: mock.patch.object(activation, "KEPT_WIDTH", 0),
}
"""Our network with one of its pieces exchanged for the ordinary way."""


def steps(options: argparse.Namespace, width: int, modes: int, batch: int) -> tuple[dict[str, Step], dict[str, int]]:
    """Return the steps to be timed, and the number of weights of each network."""
    device = options.device
    fields = torch.randn(batch, 1, options.n, options.n, device=device)
    constants = torch.randn(batch, CONSTANTS, device=device)
    target = torch.zeros_like(fields)
    planes = constants[:, :, None, None].expand(-1, -1, options.n, options.n)

    ours = FourierNetwork(1, CONSTANTS, 1, width, modes)
    plain = ReferenceNetwork.of(ours).to(device)
    ours = ours.to(device)
    found = {"plain": training_step(plain, lambda: plain(fields, constants), target)}
    networks: dict[str, nn.Module] = {"plain": plain, "ours": ours}
    peer = neuraloperator(width, modes)
    if peer is not None:
        networks["neuraloperator"] = peer = peer.to(device)
        call = peer  # bound here, so that it is no longer optional
        found["neuraloperator"] = training_step(
            peer, lambda: call(torch.cat([fields, planes], dim=1)), target, fused=False
        )
    own = training_step(ours, lambda: ours(fields, constants), target)
    found["ours"] = own
    if not options.no_ablation:
        as_it_is = KEPT if width <= activation.KEPT_WIDTH else REDONE
        for name, without in WITHOUT.items():
            if name != as_it_is:
                found[name] = _patched(own, without)
        laid_out = FourierNetwork(1 + CONSTANTS, 0, 1, width, modes)
        laid_out.load_state_dict(ours.state_dict())
        laid_out = laid_out.to(device)
        empty = constants[:, :0]
        found["ours, constants as planes"] = training_step(
            laid_out, lambda: laid_out(torch.cat([fields, planes], dim=1), empty), target
        )
        found["ours, unfused Adam"] = training_step(ours, lambda: ours(fields, constants), target, fused=False)
    return found, {name: _weights(module) for name, module in networks.items()}


def _patched(step: Step, without: Callable[[], contextlib.AbstractContextManager[Any]]) -> Step:
    def patched() -> None:
        with without():
            step()

    return patched


def _weights(module: nn.Module) -> int:
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters())


def differences(options: argparse.Namespace, width: int, modes: int) -> dict[str, dict[str, float]]:
    """Largest difference from the plain network in float64, relative to the largest value, for one example."""
    ours = FourierNetwork(1, CONSTANTS, 1, width, modes)
    with torch.no_grad():  # at their published start the spectral weights hardly matter
        for layer in ours.layers:
            layer.spectral.weight.normal_(std=1 / width)
    plain, exact = ReferenceNetwork.of(ours), ReferenceNetwork.of(ours).double()
    fields, constants = torch.randn(1, 1, options.n, options.n), torch.randn(1, CONSTANTS)
    wanted = exact(fields.double(), constants.double())
    wanted.square().sum().backward()
    truth = _gradients(exact)
    found = {}
    for name, module in (("plain", plain), ("ours", ours)):
        module.to(options.device)
        result = module(fields.to(options.device), constants.to(options.device))
        result.square().sum().backward()
        error = (result.detach().cpu().double() - wanted.detach()).abs().max() / wanted.detach().abs().max()
        own = _gradients(module)
        worst = torch.stack([(own[key] - truth[key]).abs().max() / truth[key].abs().max() for key in truth]).max()
        found[name] = {"outputs": float(error), "gradients": float(worst)}
    return found


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradients by the plain network's names, in its layout, float64."""
    with torch.no_grad():
        for weight in module.parameters():
            assert weight.grad is not None
            weight.copy_(weight.grad)
    plain = ReferenceNetwork.of(module) if isinstance(module, FourierNetwork) else module
    return {name: value.detach().cpu().double() for name, value in plain.state_dict().items()}


def timed(found: dict[str, Step], rounds: int, warm_up: int) -> dict[str, list[float]]:
    """Seconds of every step in every round; the steps take turns within a round."""
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for index in range(rounds + warm_up):
        for name, step in found.items():
            start = time.perf_counter()
            step()
            if index >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(options: argparse.Namespace, size: str) -> dict[str, Any]:
    """Measure one size in this process."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    width, modes, batch = SIZES[size]
    batch = options.batch or batch
    errors = differences(options, width, modes)
    found, weights = steps(options, width, modes, batch)
    seconds = timed(found, options.rounds, options.warm_up)
    return {"differences": errors, "weights": weights, "seconds": seconds}


def measured(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures of each size, printing them; processes are fresh ones, and add up their rounds."""
    for size in options.sizes:
        width, modes, batch = SIZES[size]
        batch = options.batch or batch
        seconds: dict[str, list[float]] = {}
        for _ in range(options.processes):
            with multiprocessing.get_context("spawn").Pool(options.apart) as pool:
                found = pool.starmap(measure, [(options, size)] * options.apart, chunksize=1)
            errors, weights = found[0]["differences"], found[0]["weights"]
            for name in found[0]["seconds"]:
                seconds.setdefault(name, []).extend(second for one in found for second in one["seconds"][name])
        print(f"\n{size}: {options.n}², width {width}, modes {modes}, batch {batch}; ", end="")
        print(", ".join(f"{name} {count:,} weights" for name, count in weights.items()))
        for name, error in errors.items():
            print(f"{name}: outputs {error['outputs']:.1e}, gradients {error['gradients']:.1e} from float64")
        print(f"{'':34s}{'ms':>9s}{'min':>9s}{'examples/s':>12s}{'against plain':>15s}")
        for name, taken in seconds.items():
            middle = statistics.median(taken)
            figures = f"{middle * 1e3:9.1f}{min(taken) * 1e3:9.1f}{batch / middle:12.1f}"
            print(f"{name:34s}{figures}{ratio(seconds['plain'], taken):15.2f}")
        if "neuraloperator" in seconds:
            print(f"ours against neuraloperator: {ratio(seconds['neuraloperator'], seconds['ours']):.2f}")
        yield {
            "size": size,
            "n": options.n,
            "width": width,
            "modes": modes,
            "batch": batch,
            "weights": weights,
            "differences": errors,
            "seconds": seconds,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--n", type=int, default=128, help="grid points a side")
    parser.add_argument("--batch", type=int, help="examples a step; by default 8")
    parser.add_argument("--processes", type=int, default=2, help="one may be unlucky with its memory, by 20%%")
    parser.add_argument("--rounds", type=int, default=4, help="in each process")
    parser.add_argument("--warm-up", type=int, default=2, help="rounds before: fresh memory is slow")
    parser.add_argument("--threads", type=int, help="of each process; by default two, and one where --apart is given")
    parser.add_argument("--apart", type=int, default=1, help="processes that run at the same time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-ablation", action="store_true")
    parser.add_argument("--json", action="store_true", help="save every round under results/")
    options = parser.parse_args()
    options.threads = options.threads or (2 if options.apart == 1 else 1)
    rounds = f"{options.rounds} rounds in each of {options.processes * options.apart} processes"
    beside = f", {options.apart} side by side" if options.apart > 1 else ""
    print(f"{options.device}, {options.threads} thread(s), torch {torch.__version__}, {rounds}{beside}")
    figures = list(measured(options))
    if options.json:
        apart = "_apart" if options.apart > 1 else ""
        batch = f"_batch{options.batch}" if options.batch else ""
        save(
            f"fno_step{apart}{batch}", {name: value for name, value in vars(options).items() if name != "json"}, figures
        )


if __name__ == "__main__":
    main()
