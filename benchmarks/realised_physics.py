"""What the distributions realise: Ψ of SYS-2 and ω of SYS-3, as tables for docs/data.md.

OMP_NUM_THREADS=1 python benchmarks/realised_physics.py [--examples 16384]
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
from pdefm_spectral.advection_diffusion import AdvectionDiffusionSampler, Mode
from pdefm_spectral.helmholtz import HelmholtzSampler

RANGES = [(0.2, 1.0), (0.2, 0.4), (0.5, 1.5), (1.0, 2.0), (2.0, 5.0)]
EDGES = [0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, np.inf]
QUANTILES = [0.01, 0.1, 0.5, 0.9, 0.99]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=16_384)
    count = parser.parse_args().examples
    realised = {ends: ratio(ends, "calibrated", count) for ends in RANGES}

    heads = [f"SYS-2({low:g},{high:g})" for low, high in RANGES]
    row("calibrated Ψ", *heads)
    row("---", *["---"] * len(heads))
    for low, high in itertools.pairwise(EDGES):
        shares = [np.mean((drawn["ratio"] >= low) & (drawn["ratio"] < high)) for drawn in realised.values()]
        row(f"{low:g} – {high:g}", *map(percent, shares))
    row("below the range", *(percent(np.mean(d["ratio"] < e[0])) for e, d in realised.items()))
    row("above the range", *(percent(np.mean(d["ratio"] > e[1])) for e, d in realised.items()))
    row("outside in all", *(percent(np.mean((d["ratio"] < e[0]) | (d["ratio"] > e[1]))) for e, d in realised.items()))
    row("mean", *(f"{d['ratio'].mean():.3f}" for d in realised.values()))

    print()
    row("exact: speed s", *(f"{quantile:.0%}" for quantile in QUANTILES), "largest", "direction redrawn")
    row("---", *["---"] * (len(QUANTILES) + 2))
    for ends in RANGES:
        sampler = AdvectionDiffusionSampler(ends, "exact", data_seed=0, split="train")
        drawn = sampler.draw(range(count))
        redrawn = np.mean(drawn["phi"] != sampler._direction(np.arange(count), 0))
        speeds = np.quantile(drawn["speed"], QUANTILES)
        row(
            f"SYS-2({ends[0]:g},{ends[1]:g})",
            *(f"{s:.3g}" for s in speeds),
            f"{drawn['speed'].max():.3g}",
            percent(redrawn),
        )

    print()
    for ends in [(1, 10), (1, 5), (11, 15)]:
        sampler = HelmholtzSampler(ends, data_seed=0, split="train")
        omega = sampler.draw(range(count))["wavenumber"]
        values = range(ends[0], ends[1] + 1)
        row(f"SYS-3({ends[0]},{ends[1]}) ω", *values)
        row("---", *["---"] * len(values))
        row("all", *(percent(np.mean(omega == value), 2) for value in values))
        for stratum, sparsity in enumerate([0.2, 0.4, 0.6, 0.8]):
            row(f"sparsity {sparsity}", *(percent(np.mean(omega[stratum::4] == value), 2) for value in values))
        print()


def ratio(ends: tuple[float, float], mode: Mode, count: int) -> dict[str, np.ndarray]:
    return dict(AdvectionDiffusionSampler(ends, mode, data_seed=0, split="train").draw(range(count)))


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
