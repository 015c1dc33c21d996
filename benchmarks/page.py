"""Write the tables of docs/performance.md from the raw figures in results/.

    python benchmarks/page.py [--check]

The page holds marks, ``<!-- name -->`` and ``<!-- end -->``; what stands between them is made from results/*.json, so
that no figure on the page is typed by hand. With ``--check`` nothing is written, and the exit code is 1 where the page
is not what the figures give.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from fno_memory import BATCH, peak_at_batch, per_example
from report import PAGE, RESULTS, ratio

AUTHORS_MS = 27.0
"""Milliseconds an example of the authors' Poisson generator took on a core where the targets were set."""
LARGER_BATCHES = ("fno_step_batch32", "fno_step_batch128")
FITTING = ("pre-training", "evaluation", "fine-tune", "scratch")
"""Stages of a learning curve that are not start-up."""
Row = Sequence[object]


def load(name: str) -> Any:
    """Return the results of one benchmark."""
    return read(name)["results"]


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def machine() -> str:
    about = read("fno_step")["environment"]
    peer = f", neuraloperator {about['neuraloperator']}" if about["neuraloperator"] else ""
    names = sorted(path.stem for path in RESULTS.glob("*.json"))
    commits = sorted({str(read(name)["environment"]["commit"]) for name in names})
    return f"{about['processor']}, torch {about['torch']}, numpy {about['numpy']}{peer}; commit {', '.join(commits)}."


def data() -> str:
    found, rows = load("data"), []
    for name, parts in found["cases"].items():
        values = [f"{statistics.median(parts[part]):.3f}" for part in ("draw", "realise", "solve", "whole")]
        floor, plain = ratio(parts["whole"], found["floor"]), ratio(parts["plain"], parts["whole"])
        errors = found["errors"][name]
        rows.append([name, *values, f"{floor:.1f}", f"{plain:.0f}", f"{errors['solve']:.0e}"])
    rows.append(["two FFTs alone", "", "", "", f"{statistics.median(found['floor']):.3f}", "1", "", ""])
    head = ["ms per example", "draw", "realise", "solve", "whole", "÷ two FFTs", "plain ÷ ours", "error to float64"]
    return table(head, rows)


def every_step() -> list[dict[str, Any]]:
    """What was measured of each size, in its batches; side by side ("apart") in the smallest alone."""
    beside = {size["size"]: size["seconds"] for size in load("fno_step_apart")}
    smallest = [{**size, "apart": beside[size["size"]]} for size in load("fno_step")]
    larger = [{**size, "apart": {}} for name in LARGER_BATCHES for size in load(name)]
    order = [size["size"] for size in smallest]
    return sorted(smallest + larger, key=lambda size: (order.index(size["size"]), size["batch"]))


def steps() -> str:
    rows = []
    for size in every_step():
        seconds, differences = size["seconds"], size["differences"]["ours"]
        for name in ("plain", "neuraloperator", "ours"):
            if name not in seconds:
                continue
            middle = statistics.median(seconds[name])
            against = [
                f"{ratio(each['plain'], each[name]):.2f}" if name in each else "" for each in (seconds, size["apart"])
            ]
            error = f"{differences['outputs']:.0e}, {differences['gradients']:.0e}" if name == "ours" else ""
            label = f"{size['size']}, batch {size['batch']}: {name}"
            rows.append([label, f"{middle * 1e3:.1f}", f"{size['batch'] / middle:.0f}", *against, error])
    head = ["step at 128²", "ms", "examples/s", "against plain", "… apart", "error to float64: outputs, gradients"]
    return table(head, rows)


def ablation() -> str:
    sizes = [(size["size"], size["seconds"]) for size in load("fno_step")]
    names = dict.fromkeys(name for _, seconds in sizes for name in seconds if name.startswith("ours"))
    rows = []
    for name in names:
        found = [ratio(seconds["plain"], seconds[name]) if name in seconds else None for _, seconds in sizes]
        rows.append([name, *("as it is" if value is None else f"{value:.2f}" for value in found)])
    return table(["against plain", *(size for size, _ in sizes)], rows)


def unet() -> str:
    rows = []
    for case in load("unet_step"):
        seconds = case["seconds"]
        faster = [f"{ratio(seconds['plain'], each):.2f}" for name, each in seconds.items() if name != "plain"]
        milliseconds = [f"{statistics.median(seconds[name]) * 1e3:.1f}" for name in ("plain", "ours")]
        rows.append([f"{case['n']}², batch {case['batch']}", *milliseconds, *faster, f"{case['difference']:.0e}"])
    head = [
        "U-Net, one thread",
        "plain, ms",
        "ours, ms",
        "against plain",
        "… torch's padding",
        "… repeated first",
        "gradients differ",
    ]
    return table(head, rows)


def memory() -> str:
    found, step, rows = load("fno_memory"), load("fno_memory_step"), []
    for small, large in zip(found[::2], found[1::2], strict=True):
        each = [f"{figure / 1e6:.1f}" for figure in per_example(small, large)]
        rows.append([f"{small['size']}: {small['kind']}", *each, peak_at_batch(small, large)])
    peak = f"{step['peak'] / 1e9:.2f}, {step['micro_batch']} at a time"
    rows.append([f"{step['size']}: ours", f"{step['saved'] / 1e6:.1f}", "–", peak])
    return table(["128²", "saved MB/example", "resident MB/example", f"peak at batch {BATCH}, GB"], rows)


def largest() -> str:
    found = load("fno_memory_step")
    return (
        f"fno-{found['size']} takes one step over {found['examples']} examples at 128² through the shared loop, "
        f"at most {found['micro_batch']} at a time, and validates 8, in {found['fit_seconds']:.0f} s; it predicts 8 in "
        f"{found['predict_seconds']:.1f} s. Largest resident size: {found['peak'] / 1e9:.1f} GB."
    )


def curve() -> str:
    found, rows = load("learning_curve"), []
    for stage in [*found["plain"]["seconds"], "total"]:
        base, own = (found[side]["seconds"].get(stage, found[side]["wall_seconds"]) for side in ("plain", "ours"))
        rows.append([stage, f"{base:.1f}", f"{own:.1f}", f"{base / own:.1f}"])
    fits = [sum(found[side]["seconds"][stage] for stage in FITTING) for side in ("plain", "ours")]
    rows.append(["of it fits and evaluation", *(f"{one:.1f}" for one in fits), f"{fits[0] / fits[1]:.1f}"])
    points = found["points"]
    same = sum(row["same_choice"] for row in points)
    worst = max(row["difference"] for row in points)
    spreads = [row["seed_spread"] for row in points if row["seed_spread"] is not None]
    text = (
        f"Same learning rate and epoch at {same} of {len(points)} points; scores differ by {worst:.0e} at most, two "
        f"seeds by {statistics.median(spreads):.0e} in the median."
    )
    return table(["wall seconds", "plain", "ours", "ratio"], rows) + "\n\n" + text


def curve16() -> str:
    found = load("learning_curve_batch16")
    base, own = (found[side]["wall_seconds"] for side in ("plain", "ours"))
    return (
        f"With batches of 16, close to the profile `lite`, the plain side works in the cache, and the same curve is "
        f"{found['ratio']:.1f} times as fast ({base:.0f} s against {own:.0f} s; not part of `make bench`):"
    )


def validation() -> str:
    rows = []
    for row in load("validation"):
        cells = []
        for side in ("plain", "loop"):
            fits = row[side]
            cells.append(sum(fit["validation_examples"] for fit in fits))
            cells.append(sum(fit["validation_seconds"] for fit in fits) / sum(fit["seconds"] for fit in fits))
        same = row["same_epochs"] and row["chosen_rates"][0] == row["chosen_rates"][1]
        evaluated = f"{cells[0]:,} → {cells[2]:,}"
        name = f"{row['arm']}, N = {row['examples']}"
        rows.append([name, evaluated, f"{cells[1]:.0%} → {cells[3]:.0%}", "yes" if same else "no"])
    return table(["plain → ours", "examples evaluated", "share of the fit", "same epochs and rate"], rows)


def precision() -> str:
    found, rows = load("precision"), []
    reference = {result["seed"]: result["score"] for result in found if result["precision"] == "float64"}
    for mode in dict.fromkeys(result["precision"] for result in found):
        mine = [result for result in found if result["precision"] == mode]
        scores = [result["score"] for result in mine]
        moved = statistics.median(abs(r["score"] / reference[r["seed"]] - 1) for r in mine)
        seconds = statistics.median(result["seconds"] for result in mine)
        spread = f"{statistics.median(scores):.4f} ({min(scores):.4f} – {max(scores):.4f})"
        rows.append([mode, spread, f"{moved:.0e}" if moved else "–", f"{seconds:.1f}"])
    return table(["training in", "score: median (range over seeds)", "moved from float64", "s per fit"], rows)


def workers() -> str:
    found = load("workers")
    base = next(r for r in found if (r["processes"], r["threads"], r["keeps_freed_memory"]) == (1, 2, False))
    rows = []
    for row in found:
        gain = statistics.median(a / b for a, b in zip(row["steps_a_second"], base["steps_a_second"], strict=True))
        kept = "kept" if row["keeps_freed_memory"] else "returned"
        rows.append([f"{row['processes']} × {row['threads']}, freed memory {kept}", f"{gain:.2f}"])
    return table(["processes × threads", "steps a second, against 1 × 2"], rows)


def hiring() -> str:
    found = load("hiring")
    named = {
        "torch.optim": "fresh interpreters, `torch.optim.Adam`",
        "fresh": "fresh interpreters, `training/adam.py`",
        "copies": "copies, `training/adam.py`",
    }
    rows = []
    for way, name in named.items():
        seconds = f"{statistics.median(found[way]):.1f}"
        rows.append([name, seconds, f"{ratio(found['torch.optim'], found[way]):.2f}"])
    return table(["two workers that have taken a step", "seconds", "times as fast"], rows)


def stacked() -> str:
    rows = [[f"{row['grid']}², batch {row['batch']}", f"{row['bound']:.2f}"] for row in load("stacked")]
    return table(["fno-64k, one thread", "stacking 5 rates gains at most"], rows)


def startup() -> str:
    rows = [[f"`pdefm {name}`", f"{statistics.median(taken):.2f}"] for name, taken in load("startup").items()]
    return table(["command", "seconds"], rows)


def targets() -> str:
    """Every target beside its value."""
    rows: list[Row] = []

    def row(what: str, target: str, shown: str, met: bool) -> None:
        rows.append([what, target, shown, "yes" if met else "**no**"])

    made = load("data")
    for name, parts in made["cases"].items():
        least = 300 if name.startswith("SYS-1") else 100
        times = AUTHORS_MS / statistics.median(parts["whole"])
        row(f"data, {name}: less than {AUTHORS_MS:g} ms", f"≥ {least} ×", f"{times:.0f} ×", times >= least)
        floor = ratio(parts["whole"], made["floor"])
        row(f"data, {name}: to the two FFTs", "≤ 2.5 ×", f"{floor:.1f} ×", floor <= 2.5)
    share = ratio(made["training"]["batch"], made["training"]["step"])
    row("data, share of a 64K training step", "< 5%", f"{share:.1%}", share < 0.05)
    for size in every_step():
        for how, seconds in (("two threads", size["seconds"]), ("two processes", size["apart"])):
            if not seconds:
                continue
            name, least = f"step, {size['size']}, batch {size['batch']}, {how}", 2.5 if size["size"] == "64k" else 2.0
            gain = ratio(seconds["plain"], seconds["ours"])
            row(f"{name}: against the plain layer", f"≥ {least:g} ×", f"{gain:.2f} ×", gain >= least)
            if "neuraloperator" in seconds:
                gain = ratio(seconds["neuraloperator"], seconds["ours"])
                row(f"{name}: against neuraloperator", "≥ 3 ×", f"{gain:.2f} ×", gain >= 3)
    for found in load("validation"):
        fits = found["loop"]
        share = sum(fit["validation_seconds"] for fit in fits) / sum(fit["seconds"] for fit in fits)
        row(f"validation, {found['arm']} N = {found['examples']}", "< 50%", f"{share:.0%}", share < 0.5)
    for name, batch in (("learning_curve", 128), ("learning_curve_batch16", 16)):
        whole = load(name)["ratio"]
        row(f"a whole learning curve, batches of {batch}", "≥ 8 ×", f"{whole:.1f} ×", whole >= 8)
    for what, target in (("16M, batch 128: of the larger floor", "≥ 60%"), ("16M: against the plain network", "≥ 3 ×")):
        rows.append([f"step on a GPU, {what}", target, "not measured", "–"])
    peak = load("fno_memory_step")["peak"] / 1e9
    row("memory of a step and an evaluation, 256M", "≤ 24 GB", f"{peak:.1f} GB", peak <= 24)
    for name in ("--help", "list models"):
        taken = statistics.median(load("startup")[name])
        row(f"`pdefm {name}`", "< 0.3 s", f"{taken:.2f} s", taken < 0.3)
    return table(["what", "target", "measured", "met"], rows)


PARTS: dict[str, Callable[[], str]] = {
    "machine": machine,
    "targets": targets,
    "data": data,
    "steps": steps,
    "ablation": ablation,
    "unet": unet,
    "memory": memory,
    "largest": largest,
    "curve": curve,
    "curve16": curve16,
    "validation": validation,
    "precision": precision,
    "workers": workers,
    "hiring": hiring,
    "stacked": stacked,
    "startup": startup,
}


def render(page: str) -> str:
    """Return the page with every marked part made anew.

    Raises:
        KeyError: a mark names no part.
    """

    def part(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", part, page, flags=re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is not up to date")
    check = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = render(before)
    if check:
        return int(after != before)
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
