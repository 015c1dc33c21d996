"""How long ``pdefm`` takes to answer without doing anything: wall seconds of a whole process, median of several.

python benchmarks/startup.py [--rounds 7] [--json]

All commands run in turn within each round; the first round, which may compile Python files, is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from report import save

COMMANDS = ("--help", "list models", "list suites", "plugins", "validate smoke")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="write results/startup.json")
    options = parser.parse_args()
    measured: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for attempt in range(options.rounds + 1):
        for command, seconds in measured.items():
            start = time.perf_counter()
            call = [sys.executable, "-m", "pdebench_fm.cli", *command.split()]
            subprocess.run(call, check=True, capture_output=True)
            if attempt:
                seconds.append(time.perf_counter() - start)
    for command, seconds in measured.items():
        shown = f"median {statistics.median(seconds):.3f} s, min {min(seconds):.3f}, max {max(seconds):.3f}"
        print(f"pdefm {command:<16} {shown}")
    if options.json:
        print(save("startup", {"rounds": options.rounds}, measured))


if __name__ == "__main__":
    main()
