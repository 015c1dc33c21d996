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


# Counted on the published code, built with the published sizes: papers and model pages round. DPOT's H is as its
# configuration says, with 32 as the width of the last layers; its file is 2 % larger.
PARAMETERS = {
    "poseidon": {"T": 20_774_444, "B": 157_729_988, "L": 628_575_524},
    "dpot": {"Ti": 7_534_643, "S": 30_801_459, "M": 122_125_875, "L": 509_018_739, "H": 1_007_421_351},
    "mpp": {"Ti": 7_285_884, "S": 28_979_436, "B": 115_608_012, "L": 407_055_628},
    "morph": {"Ti": 9_864_408, "S": 32_829_656, "M": 125_602_008, "L": 483_293_400},
    "pde-transformer": {"S": 33_190_328, "B": 130_591_568, "L": 518_128_256},
    "pde-transformer-sc": {"S": 46_566_768, "B": 178_965_184, "L": 701_358_432},
}


@pytest.mark.parametrize(("family", "size"), [(family, size) for family, sizes in PARAMETERS.items() for size in sizes])
def test_the_published_sizes_have_the_published_number_of_weights(released: ModuleType, family: str, size: str) -> None:
    with torch.device("meta"):
        network = released.PUBLISHED[family][size]()
    assert sum(p.numel() * (2 if p.is_complex() else 1) for p in network.parameters()) == PARAMETERS[family][size]
