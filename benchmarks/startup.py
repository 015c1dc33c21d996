"""How long ``pdefm`` takes to answer without doing anything: wall seconds of a whole process, median of several.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = (["--help"], ["list", "models"], ["list", "suites"], ["plugins"], ["validate", "smoke"])
RUNS = 7


def main() -> None:
    for arguments in COMMANDS:
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "pdebench_fm.cli", *arguments], check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
        shown = f"median {statistics.median(seconds):.3f} s, min {min(seconds):.3f}, max {max(seconds):.3f}"
        print(f"pdefm {' '.join(arguments):<16} {shown}")


if __name__ == "__main__":
    main()
