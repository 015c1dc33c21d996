"""Time one training step (forward, backward, Adam) of our networks against plain ones with the same weights.

    python benchmarks/step.py                        # FNO 64K, 1M and 16M at 128², U-Net at 64²: about a minute
    python benchmarks/step.py --cases 64k --n 64     # one network on another grid
    python benchmarks/step.py --batch 128            # the paper's batch; 16M needs some 14 GB

The plain FNO uses FFTs in NCHW. The plain U-Net repeats coarse fields 2×2 and convolves with torch's circular padding.
neuraloperator's FNO has the same number of weights; it comes with the extra ``peers`` and is left out if it is not
installed. Each case runs in a fresh process of one thread that keeps freed memory, as the workers of ``pdefm run`` do.
Networks take turns within a round, and a ratio is the median over rounds. Gradients are compared with those of the
plain network in float64.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from unittest import mock

import torch
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork
from pdefm_unet.network import PeriodicConvolution, UNetwork
from report import ratio, save
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm._util.memory import keep_freed_memory

FNOS = {"64k": (16, 4), "1m": (16, 16), "16m": (32, 32)}
"""Width and modes."""
GRIDS = {**dict.fromkeys(FNOS, 128), "unet": 64}
CONSTANTS = 3

Call = Callable[[Tensor, Tensor], Tensor]


def neuraloperator(width: int, modes: int) -> nn.Module | None:
    """Return neuraloperator's FNO with as many weights as ours, or None if it cannot be imported.

    It keeps all of the first count of modes, and half of the second plus one: (2m, 2m − 1) are ours.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from neuralop.models import FNO
    except ImportError:
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


def fourier_networks(size: str) -> dict[str, tuple[nn.Module, Call]]:
    """Return the FNOs of one size, and how to call each."""
    width, modes = FNOS[size]
    ours = FourierNetwork(1, CONSTANTS, 1, width, modes)
    plain = ReferenceNetwork.of(ours)
    found: dict[str, tuple[nn.Module, Call]] = {"plain": (plain, plain), "ours": (ours, ours)}
    peer = neuraloperator(width, modes)
    if peer is not None:
        call = peer

        def on_planes(fields: Tensor, constants: Tensor) -> Tensor:
            planes = constants[:, :, None, None].expand(-1, -1, *fields.shape[-2:])
            result: Tensor = call(torch.cat([fields, planes], dim=1))
            return result

        found["neuraloperator"] = (peer, on_planes)
    return found


def u_networks() -> dict[str, tuple[nn.Module, Call]]:
    """Return one U-Net, called plainly and as usual."""
    unet = UNetwork(1 + CONSTANTS, 1, 8, 3)

    def joined(layer: PeriodicConvolution, x: Tensor, coarse: Tensor | None = None) -> Tensor:
        if coarse is not None:
            x = torch.cat([functional.interpolate(coarse, scale_factor=2), x], dim=1)
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="circular"), layer.weight, layer.bias)

    def plain(fields: Tensor, constants: Tensor) -> Tensor:
        with mock.patch.object(PeriodicConvolution, "forward", joined):
            result: Tensor = unet(fields, constants)
            return result

    return {"plain": (unet, plain), "ours": (unet, unet)}


def measure(case: str, n: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every step, by network, after a round of warming up."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    networks = u_networks() if case == "unet" else fourier_networks(case)
    fields, constants = torch.randn(batch, 1, n, n), torch.randn(batch, CONSTANTS)
    target = torch.zeros_like(fields)
    optimisers = {}
    for name, (module, _) in networks.items():
        is_complex = any(parameter.is_complex() for parameter in module.parameters())
        optimisers[name] = torch.optim.Adam(module.parameters(), lr=1e-6, fused=not is_complex)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for attempt in range(rounds + 1):
        for name, (_, call) in networks.items():
            start = time.perf_counter()
            optimisers[name].zero_grad(set_to_none=True)
            ((call(fields, constants) - target).square().sum() / batch).backward()
            optimisers[name].step()
            if attempt:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def differences(width: int, modes: int, n: int, device: torch.device | str = "cpu") -> dict[str, float]:
    """Return how far our FNO is from the plain one in float64, relative to the largest value, for one example."""
    ours = FourierNetwork(1, CONSTANTS, 1, width, modes)
    with torch.no_grad():  # with their initial values the spectral weights hardly matter
        for layer in ours.layers:
            layer.spectral.weight.normal_(std=1 / width)
    exact = ReferenceNetwork.of(ours).double()
    fields, constants = torch.randn(1, 1, n, n), torch.randn(1, CONSTANTS)
    wanted = exact(fields.double(), constants.double())
    wanted.square().sum().backward()
    ours.to(device)
    result = ours(fields.to(device), constants.to(device))
    result.square().sum().backward()
    errors = (result.detach().cpu().double() - wanted.detach()).abs().max() / wanted.detach().abs().max()
    own, truth = _gradients(ours), _gradients(exact)
    worst = max(float((own[name] - truth[name]).abs().max() / truth[name].abs().max()) for name in truth)
    return {"outputs": float(errors), "gradients": worst}


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by the plain network's names, in its layout, in float64."""
    with torch.no_grad():
        for weight in module.parameters():
            assert weight.grad is not None
            weight.copy_(weight.grad)
    plain = ReferenceNetwork.of(module) if isinstance(module, FourierNetwork) else module
    return {name: value.detach().cpu().double() for name, value in plain.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(GRIDS), default=list(GRIDS))
    parser.add_argument("--n", type=int, help="grid points a side; by default 128, and 64 for the U-Net")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="write results/step.json")
    options = parser.parse_args()
    results = []
    for case in options.cases:
        n = options.n or GRIDS[case]
        with contextlib.closing(multiprocessing.get_context("spawn").Pool(1)) as pool:
            seconds = pool.apply(measure, (case, n, options.batch, options.rounds))
        error = differences(*FNOS[case], n) if case in FNOS else {}
        print(f"{case}, {n}², batch {options.batch} {error}")
        for name, taken in seconds.items():
            faster = ratio(seconds["plain"], taken)
            print(f"  {name:16s}{statistics.median(taken) * 1e3:9.1f} ms, {faster:.2f} times as fast as plain")
        results.append({"case": case, "n": n, "batch": options.batch, "differences": error, "seconds": seconds})
    if options.json:
        print(save("step", vars(options), results))


if __name__ == "__main__":
    main()
