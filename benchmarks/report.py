"""Write the raw figures of a benchmark as JSON, with the machine and the versions they were taken with."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "numpy", "h5py", "neuraloperator")


def save(name: str, settings: dict[str, Any], results: Any) -> Path:
    """Write ``results/<name>.json`` and return its path.

    Args:
        name: the benchmark's name.
        settings: its options.
        results: its figures, of every round.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"benchmark": name, "settings": settings, "environment": environment(), "results": results}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def environment() -> dict[str, Any]:
    """Return the processor, the number of cores, versions, threads and commit."""
    import torch

    about: dict[str, Any] = {"processor": _processor(), "python": platform.python_version(), "commit": _commit()}
    about["threads"] = torch.get_num_threads()
    about["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    for package in _PACKAGES:
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            about[package] = None
    return about


def ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """Return how many times faster ``other`` is than ``base``: the median of the quotients within a round."""
    return statistics.median(b / o for b, o in zip(base, other, strict=True))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.processor()


def _commit() -> str | None:
    """Return the commit, with "-dirty" if anything but results differs from it."""
    commit = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/", f":(exclude){RESULTS}")
    return commit and commit + ("" if changed == "" else "-dirty")


def _git(*arguments: str) -> str | None:
    """Return what git prints, or None if it fails."""
    try:
        answer = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:  # there is no git
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
