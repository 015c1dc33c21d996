"""A Slurm of two nodes on this machine, for tests marked ``slurm``; see slurm.sh beside this file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")
FAST = {"tasks": 1, "poll": 1.0}
"""Settings of the executor: few tasks, since each starts Python anew, and quick looks."""


def why_not() -> str:
    """Why there is no Slurm here; empty if one can be started."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch")
    missing = [name for name in programs if shutil.which(name) is None and not Path("/usr/sbin", name).exists()]
    if missing:
        return f"no {', '.join(missing)}: install slurmctld, slurmd, slurm-client and munge"
    return "" if os.geteuid() == 0 else "only root can start Slurm's daemons"


@contextmanager
def two_nodes(folder: Path) -> Iterator[None]:
    """Run a Slurm of two nodes, which commands started inside use."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "SLURM_TEST_PORT": str(port), "SLURM_TEST_NODES": "2"}
    subprocess.run([SCRIPT, "start", folder], check=True, env=environment, stdout=subprocess.DEVNULL, timeout=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            yield
        finally:
            subprocess.run(["scancel", "--name", "pdefm"], check=False)
            subprocess.run([SCRIPT, "stop", folder], check=True)
