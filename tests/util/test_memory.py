"""Freed memory stays in the process."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from pdebench_fm._util.memory import room_for_a_set

COUNT = """
import resource, sys
import numpy
from pdebench_fm._util.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    numpy.empty({size}, dtype=numpy.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for _ in range(20):  # small pieces between blocks keep the first ones from joining
    faults()
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
@pytest.mark.parametrize("megabytes", [4, 100])
def test_a_block_that_was_freed_is_used_again(megabytes: int) -> None:
    size = megabytes * 2**20

    def faults(what: str) -> int:
        command = [sys.executable, "-c", COUNT.format(size=size), what]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("keep") < 10
    assert megabytes < 32 or faults("return") > size // 2**22  # a fault a page, whose size the kernel chooses


def test_a_gpu_has_a_sixteenth_of_its_memory_for_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=80 * 2**30))
    assert room_for_a_set(torch.device("cuda"), on_cpu=2**30) == 5 * 2**30
    assert room_for_a_set(torch.device("cuda:1"), on_cpu=2**33) == 2**33
    assert room_for_a_set(torch.device("cpu"), on_cpu=2**30) == 2**30
