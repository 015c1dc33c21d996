"""What tests of the conformance checks share."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pdebench_fm.registry import discovery
from tests.testing import broken_plugin

TINY = """\
protocols: [zero-shot]
profiles:
  tiny:
    grid: 16
    examples: {pretraining: 4, validation: 4, test: 4, downstream: [4]}
    training: {epochs: 1, learning_rates: [1e-3]}
    fine_tuning: {epochs: 1, learning_rates: [1e-3]}
"""
"""What the small suites here need beside their distributions."""

SUITE = (
    """\
name: broken
version: 1
description: One distribution.
default_profile: tiny
distributions:
  D: {system: SYSTEM, fault: "FAULT"}
pretraining: {P: [D]}
tasks: [{name: T, pretraining: P, downstream: D, shift: none}]
"""
    + TINY
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The broken plugin beside those that are installed."""
    points = [*importlib.metadata.entry_points(group="pdebench_fm"), EntryPoint("broken", broken_plugin.__name__, "x")]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    discovery.installed.cache_clear()
    yield
    discovery.installed.cache_clear()


@pytest.fixture
def distribution(installed: None, tmp_path: Path) -> Callable[[str, str], str]:
    """Return a distribution of a system of the broken plugin, with a fault of its sampler."""

    def reference(system: str, fault: str = "") -> str:
        path = tmp_path / "broken.yaml"
        path.write_text(SUITE.replace("SYSTEM", system).replace("FAULT", fault), encoding="utf-8")
        return f"{path}:D"

    return reference
