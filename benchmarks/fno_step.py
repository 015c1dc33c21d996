"""One training step of the FNO (forward, backward, Adam), ours against the plain rfft2 network, interleaved.

    python benchmarks/fno_step.py --n 32 --width 16 --modes 4 --batch 64

Prints the median milliseconds of a step for each network, with torch's plain and fused Adam, and how many times faster
it is than the plain network with plain Adam. Both networks have the same weights; the relative difference of their
outputs is printed first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from pdefm_fno.network import FourierNetwork
from pdefm_fno.reference import ReferenceNetwork
from torch import nn


def training_step(
    network: nn.Module, fields: torch.Tensor, constants: torch.Tensor, fused: bool
) -> Callable[[], torch.Tensor]:
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-6, fused=fused)
    target = torch.zeros_like(fields[:, :1])

    def step() -> torch.Tensor:
        optimiser.zero_grad(set_to_none=True)
        loss = (network(fields, constants) - target).square().sum() / len(fields)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=32, help="grid points a side")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--modes", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--constants", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    def network() -> FourierNetwork:
        made = FourierNetwork(1, options.constants, 1, options.width, options.modes)
        made.load_state_dict(first.state_dict())
        return made.to(options.device)

    first = FourierNetwork(1, options.constants, 1, options.width, options.modes)
    fields = torch.randn(options.batch, 1, options.n, options.n, device=options.device)
    constants = torch.randn(options.batch, options.constants, device=options.device)
    with torch.no_grad():
        plain, ours = ReferenceNetwork.of(first).to(options.device)(fields, constants), network()(fields, constants)
    print(f"relative difference of outputs {float((plain - ours).norm() / plain.norm()):.1e}")

    steps = {}
    for fused in (False, True):
        kind = "fused Adam" if fused else "Adam"
        steps[f"plain, {kind}"] = training_step(ReferenceNetwork.of(first).to(options.device), fields, constants, fused)
        steps[f"ours, {kind}"] = training_step(network(), fields, constants, fused)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.repeats + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step().item()
            if repeat >= 2:
                seconds[name].append(time.perf_counter() - start)
    print(f"n {options.n}, width {options.width}, modes {options.modes}, batch {options.batch}, ", end="")
    print(f"{options.device}, {options.threads} thread(s), torch {torch.__version__}")
    base = statistics.median(seconds["plain, Adam"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:20s} {median * 1e3:9.2f} ms   {base / median:5.2f}×")


if __name__ == "__main__":
    main()
