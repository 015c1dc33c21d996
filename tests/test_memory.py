"""Freed memory stays in the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from pdebench_fm.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty({size}, dtype=torch.uint8).fill_(1)
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
