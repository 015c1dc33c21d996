"""Plan, run, resume and collect suites of very many empty jobs, and report time, memory and files against their number.

    python benchmarks/many_jobs.py [--jobs 1000 10000] [--fill] [--json] [--figure]

The model predicts zero, so what is measured is the bookkeeping. Each step is a process of its own. Its processor time
is told beside its time, because that counts on a busy machine. A step whose processor time grows faster than the jobs
is marked.

With --fill, 100 jobs are run and their results copied for all others, because running very many takes hours. Then "run"
finds them done, and writes the records.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report import save

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "many-jobs.png"
SIZES = 50
SUITE = """\
name: many
version: 1
description: Very many jobs in which nothing is fitted.
default_profile: tiny
distributions:
  A: {{system: poisson, eigenvalue: [1, 5]}}
  B: {{system: poisson, eigenvalue: [5, 10]}}
pretraining:
  poisson: [A]
tasks:
  - {{name: B from A, pretraining: poisson, downstream: B, shift: med}}
protocols: [scratch]
profiles:
  tiny:
    grid: 8
    examples: {{pretraining: 2, validation: 2, test: 2, downstream: {sizes}}}
    training: {{epochs: 1, batch_size: 2, learning_rates: [1e-3]}}
    fine_tuning: {{epochs: 1, learning_rates: [1e-3]}}
    seeds: {seeds}
"""
PDEFM = ("-m", "pdebench_fm.cli")
RUN = (*PDEFM, "run", "many.yaml", "--model", "zero", "--executor", "debug")
PLAN = (
    "from pdebench_fm.run.prepare import prepare\n"
    "(plan,) = prepare('zero', 'many.yaml', device='cpu')\n"
    "print(len(plan.jobs))"
)
FILL = """
import copy, sys
import numpy
from pathlib import Path
from pdebench_fm.plan.job import Point
from pdebench_fm.run.prepare import prepare
(few,) = prepare("zero", "many.yaml", device="cpu", seeds=1)
made = {job.kind: few.store.result(job.id) for job in few.jobs.values()}
errors = numpy.load(few.store.folder(next(job.id for job in few.jobs.values() if job.kind == "point")) / "errors.npy")
(plan,) = prepare("zero", "many.yaml", device="cpu")
for job in plan.jobs.values():
    if job.id not in few.jobs:
        result = copy.copy(made[job.kind])
        if isinstance(job, Point):
            result |= {"trials": list(job.trials), "chosen": job.trials[0] if job.trials else None}
        with plan.store.lock(job.id):
            plan.store.begin(job)
            if isinstance(job, Point):
                plan.store.keep_errors(job, errors)
            else:
                plan.store.write_history(job, [])
            plan.store.end(job, result)
"""
STEPS = {
    "plan": ("-c", PLAN),
    "run": RUN,
    "run again": RUN,
    "status": (*PDEFM, "status"),
    "leaderboard add": (*PDEFM, "leaderboard", "add", "runs", "--directory", "board", "--suite", "many.yaml"),
    "leaderboard build": (*PDEFM, "leaderboard", "build", "--directory", "board", "--suite", "many.yaml"),
}


def measure(jobs: int, folder: Path, fill: bool = False) -> dict[str, Any]:
    """Do every step with about so many jobs; return seconds and peak memory in GB of each, and counts of files.

    Args:
        jobs: about how many.
        folder: takes everything.
        fill: copy results of 100 jobs for all others.
    """
    sizes = list(range(1, SIZES + 1))
    seeds = max(1, round(jobs / (2 * SIZES)))  # a trial and a point each
    (folder / "many.yaml").write_text(SUITE.format(sizes=sizes, seeds=seeds), encoding="utf-8")
    found: dict[str, Any] = {"asked": jobs, "filled": fill}
    if fill:
        _run((*RUN, "--seeds", "1"), folder)
        _run(("-c", FILL), folder)
    for name, command in STEPS.items():
        start = time.perf_counter()
        out, processor, gigabytes = _run(command, folder)
        one = {"seconds": time.perf_counter() - start, "processor_seconds": processor, "gigabytes": gigabytes}
        found[name] = one
        if name == "plan":
            found["jobs"] = int(out)
        times = f"{one['seconds']:8.1f} s, {processor:8.1f} s of a processor, {gigabytes:6.2f} GB"
        print(f"{found['jobs']:>8,} jobs  {name:<18} {times}", flush=True)
    paths = [Path(parent, name) for parent, below, files in os.walk(folder / "runs") for name in (*below, *files)]
    found["inodes"] = len(paths)
    found["bytes"] = sum(path.stat().st_blocks * 512 for path in paths)
    print(f"{found['jobs']:>8,} jobs  {found['inodes']:,} inodes, {found['bytes'] / 1e6:,.0f} MB on disk", flush=True)
    return found


def _run(command: Sequence[str], folder: Path) -> tuple[str, float, float]:
    """Run Python; return what it prints, its processor time, and its peak memory in GB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{err.read()[-2000:]}")
        return out.read(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / (1e6 if sys.platform != "darwin" else 1e9)


def superlinear(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the steps that grow faster than their jobs, with some room for noise, from one number to the next."""
    slow = []
    for less, more in itertools.pairwise(found):
        factor = more["jobs"] / less["jobs"]
        slow += [
            f"{name}: × {more[name]['processor_seconds'] / less[name]['processor_seconds']:.1f} for × {factor:.1f} jobs"
            for name in STEPS
            if more[name]["processor_seconds"] > 1.3 * factor * less[name]["processor_seconds"]
        ]
    return slow


def draw(found: Sequence[dict[str, Any]]) -> Path:
    """Draw processor seconds against jobs, both on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for name in STEPS:
        axes.loglog(
            [one["jobs"] for one in found], [one[name]["processor_seconds"] for one in found], marker="o", label=name
        )
    axes.set(xlabel="jobs", ylabel="processor seconds")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(FIGURE, metadata={"Software": None})
    return FIGURE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--fill", action="store_true", help="copy the results of 100 jobs for all others")
    parser.add_argument("--json", action="store_true", help="write results/many_jobs.json")
    parser.add_argument("--figure", action="store_true", help="draw docs/images/many-jobs.png")
    options = parser.parse_args()
    found = []
    for jobs in options.jobs:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(jobs, Path(folder), options.fill))
    for line in superlinear(found):
        print(f"faster than linear: {line}")
    if options.json:
        print(save("many_jobs", vars(options), found))
    if options.figure:
        print(draw(found))


if __name__ == "__main__":
    main()
