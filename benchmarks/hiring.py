"""How long until two workers can fit: copies of a process that has imported torch, against fresh interpreters.

    python benchmarks/hiring.py [--rounds 3] [--json]

A time is that of a whole program, from its start until it has ended: it imports torch itself, as `pdefm run` does while
it reads and plans, and two workers have each taken a step of Adam. A third way is fresh interpreters with torch's own
optimiser, whose first step imports hundreds of modules more. The ways take turns; the first round is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from report import ratio, save

WAYS = ("torch.optim", "fresh", "copies")


@dataclass(frozen=True)
class Job:
    """As much of a job as the executor looks at."""

    id: str
    parents: tuple[str, ...] = ()


def torchs_step(job: Job, report: Callable[..., None]) -> None:
    import torch

    import pdebench_fm.training  # noqa: F401

    weight = torch.ones(1, requires_grad=True)
    weight.square().backward()
    torch.optim.Adam([weight], fused=True).step()


def our_step(job: Job, report: Callable[..., None]) -> None:
    import torch

    from pdebench_fm.training.adam import Adam

    weight = torch.ones(1, requires_grad=True)
    weight.square().backward()
    Adam([weight], fused=True).step(1e-3)


def hire(way: str) -> None:
    from pdebench_fm.run.executors import ProcessExecutor, begin_loading

    if way == "copies":
        begin_loading()
    import torch  # noqa: F401

    executor: ProcessExecutor[Job, None] = ProcessExecutor(2, copies=way == "copies")
    perform = torchs_step if way == "torch.optim" else our_step
    for _ in executor.run([Job("a"), Job("b")], perform, lambda job, progress: None):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="write results/hiring.json")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way is not None:
        hire(options.way)
        return
    measured: dict[str, list[float]] = {way: [] for way in WAYS}
    for attempt in range(options.rounds + 1):
        for way, seconds in measured.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, __file__, "--way", way], check=True)
            if attempt:
                seconds.append(time.perf_counter() - start)
    for way, seconds in measured.items():
        print(f"{way:12s} median {statistics.median(seconds):.2f} s, min {min(seconds):.2f}, max {max(seconds):.2f}")
    for way in ("fresh", "copies"):
        print(f"torch.optim ÷ {way} {ratio(measured['torch.optim'], measured[way]):.2f}")
    if options.json:
        print(save("hiring", {"rounds": options.rounds}, measured))


if __name__ == "__main__":
    main()
