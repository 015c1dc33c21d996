"""Two processes with one thread each, or one process with two? And what does keeping freed memory give?

    python benchmarks/workers.py [--grid 32] [--batch 16] [--width 16] [--modes 4] [--rounds 3] [--json]

Training steps (forward, backward, Adam) of the FNO a second, all arrangements in turn within each round, medians over
the rounds. Two cores are assumed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time

from report import save

SECONDS = 2.0


def steps_a_second(arguments: argparse.Namespace, threads: int, keep: bool) -> float:
    """Train on noise for a while in a fresh process."""
    from pdebench_fm._util.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    import torch
    from pdefm_fno.network import FourierNetwork

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = FourierNetwork(1, 3, 1, arguments.width, arguments.modes)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    n, batch = arguments.grid, arguments.batch
    fields, constants = torch.randn(batch, 1, n, n), torch.randn(batch, 3)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        network(fields, constants).square().sum().backward()
        optimiser.step()

    for _ in range(3):
        step()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        step()
        done += 1
    return done / (time.perf_counter() - start)


def measure(arguments: argparse.Namespace, processes: int, threads: int, keep: bool) -> float:
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.starmap(steps_a_second, [(arguments, threads, keep)] * processes, chunksize=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("grid", 32), ("batch", 16), ("width", 16), ("modes", 4), ("rounds", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true", help="write results/workers.json")
    arguments = parser.parse_args()
    arrangements = [(p, t, keep) for p, t in ((1, 1), (1, 2), (2, 1)) for keep in (False, True)]
    measured: dict[tuple[int, int, bool], list[float]] = {arrangement: [] for arrangement in arrangements}
    for _ in range(arguments.rounds):
        for arrangement in arrangements:
            measured[arrangement].append(measure(arguments, *arrangement))
    base = measured[1, 2, False]
    for (processes, threads, keep), rates in measured.items():
        ratio = statistics.median(rate / other for rate, other in zip(rates, base, strict=True))
        print(
            f"{processes} process(es) × {threads} thread(s), {'keeping' if keep else 'returning'} freed memory: "
            f"{statistics.median(rates) * arguments.batch:7.0f} examples/s, {ratio:.2f} × one process with two threads"
        )
    if arguments.json:
        results = [
            {"processes": processes, "threads": threads, "keeps_freed_memory": keep, "steps_a_second": rates}
            for (processes, threads, keep), rates in measured.items()
        ]
        settings = {name: value for name, value in vars(arguments).items() if name != "json"}
        print(save("workers", {**settings, "seconds": SECONDS}, results))


if __name__ == "__main__":
    main()
