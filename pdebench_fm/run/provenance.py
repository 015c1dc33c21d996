"""Which software, on which device: kept with every result when it is made, and copied to its records."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pdebench_fm._util.text import printable, quoted
from pdebench_fm._version import __version__
from pdebench_fm.registry import Registry


def provenance(device: str, registry: Registry) -> dict[str, Any]:
    """Return device, threads, versions and commit of this process, as plain data.

    Plugins are listed because their import may change what others compute, e.g. by patching a library.
    """
    import torch

    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {
            "pdebench_fm": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": _installed("numpy"),
            **{printable(f"plugin {name}"): quoted(package) for name, package in registry.versions().items()},
        },
        "commit": source_commit(),
    }


_installed = cache(version)  # reads a file


def device_name(device: str) -> str:
    """Return the device as records name it: its kind, and a GPU's model."""
    import torch

    if device.startswith("cuda"):
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()})"


@cache
def source_commit() -> str | None:
    """Return the commit of this checkout, with ``+`` if it has changes; None if the package is installed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty=+"]
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
