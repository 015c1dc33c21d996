"""What a training step takes, as benchmarks/fno_memory.py derives it and the page shows it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pdefm_fno.network import FourierNetwork

from pdebench_fm.training.feed import Batch
from pdebench_fm.training.micro_batches import saved_bytes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("fno_memory")


def figures(size: str, batch: int, saved: float, peak: float) -> dict[str, Any]:
    return {"size": size, "kind": "ours", "batch": batch, "saved": saved * 1e6, "peak": peak * 1e6}


MEASURED = figures("1m", 8, 80, 400), figures("1m", 128, 1_280, 2_200)
DRAWN_OUT = figures("256m", 6, 360, 5_000), figures("256m", 12, 720, 5_600)


def test_an_example_adds_the_difference_of_two_batches(memory: ModuleType) -> None:
    assert memory.per_example(*MEASURED) == pytest.approx((10e6, 15e6))
    assert memory.per_example(*DRAWN_OUT) == pytest.approx((60e6, 100e6))


def test_a_peak_is_the_measured_one_or_marked(memory: ModuleType) -> None:
    assert memory.peak_at_batch(*MEASURED) == "2.20"
    assert memory.peak_at_batch(*DRAWN_OUT) == "≈ 17.2"  # 5.6 + 116 × 0.1 GB


def test_the_page_shows_what_was_measured(memory: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    page = importlib.import_module("page")
    step = {"size": "256m", "peak": 9.81e9, "micro_batch": 63, "saved": 67.3e6}
    plain = [{**one, "size": "16m", "kind": "plain"} for one in DRAWN_OUT]
    monkeypatch.setattr(page, "load", {"fno_memory": [*MEASURED, *plain], "fno_memory_step": step}.__getitem__)
    assert page.memory().splitlines()[2:] == [
        "| 1m: ours | 10.0 | 15.0 | 2.20 |",
        "| 16m: plain | 60.0 | 100.0 | ≈ 17.2 |",
        "| 256m: ours | 67.3 | – | 9.81, 63 at a time |",
    ]


def test_no_batch_is_larger_than_the_largest_allowed(memory: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(what: str, size: str, kind: str, n: int, batch: int) -> dict[str, Any]:
        calls.append((size, kind, batch))
        return {**figures(size, batch, batch, batch), "weights": 4}

    monkeypatch.setattr(memory, "run", run)
    memory.table(["64k", "256m"], 128, 16)
    assert set(calls) == {
        *[("64k", kind, batch) for kind in ("ours", "plain") for batch in (8, 16)],
        *[("256m", "ours", batch) for batch in (6, 12)],
    }
    assert len(calls) == 6


def test_a_worker_measures_what_autograd_keeps(memory: ModuleType) -> None:
    found = memory.run("batch", "64k", "ours", 16, 2)
    sample = Batch(torch.zeros(2, 1, 16, 16), torch.zeros(2, 3), torch.zeros(2, 1, 16, 16))
    # The plane and the constants that go in, and the loss's prediction, belong to the loss, not to the network.
    least = saved_bytes(FourierNetwork(1, 3, 1, 16, 4), sample)
    assert least <= found["saved"] <= least + 2 * 4 * (2 * 16**2 + 3)
    # Resident size of the process itself, not of this one, which started it and may be larger.
    assert 0 < found["start"] < found["peak"] < found["start"] + 200e6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes", "16m", "--largest", "12"], "--largest must be from 13 to 128, got 12"),
        (["--largest", "129"], "--largest must be from 13 to 128, got 129"),
        (["--sizes", "64k", "16m", "--n", "32"], "--n must be at least 64 for the modes of 64k, 16m, got 32"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], said: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "fno_memory.py"), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].endswith(said)
