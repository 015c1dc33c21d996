"""Write docs/cost.md: what every suite costs at profile paper, by the data sheet of a GPU.

    python benchmarks/cost.py [--device h200] > docs/cost.md
    python benchmarks/cost.py --suite ood_sys1 --model fno-1m --rows

Nothing is run. Each row is what ``pdefm run SUITE --model NAME --profile paper --dry-run --device h200 --json`` says.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence

from pdebench_fm._util.text import duration, megabytes
from pdebench_fm.cli.dry_run import SIDE_BY_SIDE, on_gpus
from pdebench_fm.plan.estimate import estimate
from pdebench_fm.plan.gpus import GPUS, LAUNCH, SHARE, Gpu, find_gpu
from pdebench_fm.registry import registry
from pdebench_fm.run.prepare import prepare
from pdebench_fm.suite.reading import load_suite

PROFILE = "paper"
MODELS = ("fno-64k", "fno-1m", "fno-16m", "fno-256m")
PAGE = """\
# What the study costs

The six suites of the paper and `ood_sys2_exact` at its scale (`--profile paper`) for its four
model sizes, on the {device}. These are calculated figures; nothing was run on a GPU. One command prints it for any
suite, network and GPU ({names}):

    pdefm run ood_sys1 --model fno-1m --profile paper --dry-run --device {device}

`python benchmarks/cost.py > docs/cost.md` writes this page.

{table}

On 8 and 64 GPUs, jobs start in the order of a run, each on one GPU as soon as its parents are done: pre-training, its
score, fine-tuning, scores. The longest chain bounds the time on any number of GPUs. Pre-trainings that suites share are
done once if they share a folder, so the rows add up to more than the whole study.

## What is assumed

| device | float32, TFLOP/s | memory, TB/s | source |
|---|--:|--:|---|
{devices}

- A training step reaches {share:.0%} of these rates. We count the operations of the network, forward and backward, and
  take the slower of arithmetic and memory. We assume that they are not fused, which doubles the memory traffic.
- A step reads and writes weights, gradients and Adam's moments, and takes at least {launch:g} µs for each operation.
- A prediction takes a third of a step per example. Every epoch predicts all validation examples, which is most of the
  time at small N.
- Not counted: making examples, start-up, searches that go on (`extend`), and any gain of `--precision`.

Times scale inversely with this share: double them if your GPU reaches a quarter of its data sheet.
[Performance](performance.md) has what was measured on CPUs.
"""


def studies() -> list[str]:
    """Return the shipped suites that have the profile and take these models."""
    found = registry()
    names = [name for name in found.names("suites") if name != "released"]
    return [name for name in names if PROFILE in load_suite(name, found).profiles]


def row(suite: str, model: str, gpu: Gpu) -> str:
    """Return the row of one suite and model, as Markdown."""
    with tempfile.TemporaryDirectory() as nothing_done:
        (plan,) = prepare(model, suite, PROFILE, device="cuda", output=nothing_done, elsewhere=True)
    cost = estimate(plan, plan.jobs, gpu)
    about = on_gpus([plan], [cost])
    walls = [duration(about["wall_seconds"][str(number)]) for number in SIDE_BY_SIDE[1:]]
    chain = duration(sum(job["seconds"] for job in about["longest_chain"]))
    cells = (
        suite, model, f"{len(plan.jobs):,}", f"{cost.seconds / 3600:,.0f}", *walls, chain,
        megabytes(cost.bytes), f"{cost.files:,}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def table(suites: Sequence[str], models: Sequence[str], gpu: Gpu) -> str:
    """Return the rows of suites and models under their head."""
    head = (
        "suite",
        "model",
        "jobs",
        "GPU hours",
        *(f"on {n} GPUs" for n in SIDE_BY_SIDE[1:]),
        "longest chain",
        "disk",
        "files",
    )
    lines = [f"| {' | '.join(head)} |", "|---|---" + "|--:" * (len(head) - 2) + "|"]
    return "\n".join([*lines, *(row(suite, model, gpu) for suite in suites for model in models)])


def page(gpu: Gpu) -> str:
    """Return the whole page."""
    devices = [f"| {g.name} | {g.flops / 1e12:g} | {g.bytes / 1e12:g} | {g.source} |" for g in GPUS.values()]
    return PAGE.format(
        device=gpu.name,
        names=", ".join(GPUS),
        table=table(studies(), MODELS, gpu),
        devices="\n".join(devices),
        share=SHARE,
        launch=LAUNCH * 1e6,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="h200", help=f"one of {', '.join(GPUS)}")
    parser.add_argument("--suite", nargs="+", help="only these suites")
    parser.add_argument("--model", nargs="+", default=MODELS, help="only these models")
    parser.add_argument("--rows", action="store_true", help="print the table only")
    options = parser.parse_args()
    gpu = find_gpu(options.device)
    print(table(options.suite or studies(), options.model, gpu) if options.rows else page(gpu).rstrip("\n"))


if __name__ == "__main__":
    main()
