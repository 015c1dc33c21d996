"""Would it pay to train several learning rates of one point side by side, as one stacked network?

    OMP_NUM_THREADS=1 python benchmarks/stacked.py [--rates 5] [--json]

R stacked networks at batch B do the arithmetic of one network at batch R · B with the calls of one, so that
R · time(B) / time(R · B) bounds what stacking could gain. Timed are training steps (forward, backward, Adam) of
fno-64k with one thread, as `pdefm run` trains small networks on a CPU; both in turn within each round.
"""

from __future__ import annotations

import argparse
import statistics
import time

from report import save

CASES = [(32, 1), (32, 4), (32, 8), (32, 16), (64, 1), (64, 4), (64, 8), (64, 16), (128, 1), (128, 8)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="write the raw figures to benchmarks/results/")
    options = parser.parse_args()

    from pdebench_fm._util.memory import keep_freed_memory

    keep_freed_memory()
    import torch
    from pdefm_fno.network import FourierNetwork

    torch.set_num_threads(1)
    torch.manual_seed(0)

    def seconds(n: int, batch: int) -> float:
        fields, constants = torch.randn(batch, 1, n, n), torch.randn(batch, 3)
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        network(fields, constants).square().sum().backward()
        optimiser.step()
        return time.perf_counter() - start

    results = []
    for n, batch in CASES:
        network = FourierNetwork(1, 3, 1, 16, 4)
        optimiser = torch.optim.Adam(network.parameters(), fused=True)
        pairs = [(seconds(n, batch), seconds(n, batch * options.rates)) for _ in range(options.rounds + 2)][2:]
        gain = statistics.median(options.rates * alone / together for alone, together in pairs)
        alone = statistics.median(pair[0] for pair in pairs)
        print(
            f"{n}², batch {batch:3}: {alone * 1e3:7.2f} ms a step; stacking {options.rates} gains at most {gain:.2f}×"
        )
        results.append({"grid": n, "batch": batch, "seconds": pairs, "bound": gain})
    if options.json:
        save("stacked", vars(options), results)


if __name__ == "__main__":
    main()
