"""One training step of the U-Net (forward, backward, Adam), against the same network written plainly, interleaved.

    OMP_NUM_THREADS=1 python benchmarks/unet_step.py [--json]

The plain one repeats coarse fields 2×2, joins them with the skipped ones, pads with torch's circular padding, and
convolves. Beside it, ours with one of its two pieces exchanged for that: each is a gain of its own. All have the same
weights; the difference of their gradients, relative to the largest, stands beside the speed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

import torch
from fno_step import Step, timed, training_step
from pdefm_unet import network
from pdefm_unet.network import PeriodicConvolution, UNetwork
from report import ratio, save
from torch import Tensor
from torch.nn import functional

from pdebench_fm._util.memory import keep_freed_memory

CASES = ((64, 16), (64, 8), (32, 16), (128, 8))
"""Points a side and batch; the first is that of profile lite."""
CONSTANTS = 3


def circular(x: Tensor) -> Tensor:
    return functional.pad(x, (1, 1, 1, 1), mode="circular")


def joined(convolution: PeriodicConvolution, x: Tensor, coarse: Tensor | None = None) -> Tensor:
    """What `PeriodicConvolution.forward` computes, as it is usually written."""
    if coarse is not None:
        x = torch.cat([functional.interpolate(coarse, scale_factor=2), x], dim=1)
    return functional.conv2d(circular(x), convolution.weight, convolution.bias)


def repeated(coarse: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(network._padded(functional.interpolate(coarse, scale_factor=2)), weight)


KINDS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "plain": lambda: mock.patch.object(PeriodicConvolution, "forward", joined),
    "ours": ExitStack,
    "ours, torch's padding": lambda: mock.patch.object(network, "_padded", circular),
    "ours, repeated before it is convolved": lambda: mock.patch.object(network, "_convolved_when_repeated", repeated),
}


def measure(n: int, batch: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    unet = UNetwork(1 + CONSTANTS, 1, 8, 3)
    fields, constants, target = torch.randn(batch, 1, n, n), torch.randn(batch, CONSTANTS), torch.randn(batch, 1, n, n)
    step = training_step(unet, lambda: unet(fields, constants), target)

    def of(kind: str) -> Step:
        def patched() -> None:
            with KINDS[kind]():
                step()

        return patched

    gradients = {}
    for kind in ("plain", "ours"):
        with KINDS[kind]():
            found = torch.autograd.grad((unet(fields, constants) - target).square().sum(), list(unet.parameters()))
        gradients[kind] = torch.cat([each.flatten() for each in found])
    difference = (gradients["ours"] - gradients["plain"]).abs().max() / gradients["plain"].abs().max()
    seconds = timed({kind: of(kind) for kind in KINDS}, rounds, warm_up=3)
    return {"n": n, "batch": batch, "seconds": seconds, "difference": float(difference)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--json", action="store_true", help="write the raw figures to benchmarks/results/unet_step.json"
    )
    options = parser.parse_args()
    keep_freed_memory()
    results = []
    for n, batch in CASES:
        case = measure(n, batch, options.rounds)
        results.append(case)
        print(f"{n}², batch {batch}: gradients differ by {case['difference']:.0e}")
        for kind, seconds in case["seconds"].items():
            faster = ratio(case["seconds"]["plain"], seconds)
            print(
                f"  {kind:38s} {statistics.median(seconds) * 1e3:7.1f} ms, {faster:.2f} times as fast as the plain one"
            )
    if options.json:
        save("unet_step", vars(options), results)


if __name__ == "__main__":
    main()
