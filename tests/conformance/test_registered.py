"""Every registered part keeps its interface: models at small size, a distribution of each kind, metrics, protocols."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pdebench_fm.registry.discovery import KINDS, registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.testing import (
    DISTRIBUTION_CHECKS,
    METRIC_CHECKS,
    MODEL_CHECKS,
    PROTOCOL_CHECKS,
    Check,
    checks_of_distribution,
    checks_of_metric,
    checks_of_model,
    checks_of_protocol,
    in_pytest,
)
from tests.plugins.released.tiny import tiny_poseidon, tiny_separate

FIXTURES = Path(__file__).parents[1] / "plugins" / "released" / "fixtures"
SMALL: dict[str, dict[str, Any]] = {
    "fno": {"width": 4, "modes": 4},
    "unet": {"width": 2, "levels": 2},
    "mode-regression": {"modes": 3},
    "neuralop-fno": {"width": 4, "modes": 4, "layers": 2},
    "neuralop-tfno": {"width": 4, "modes": 4, "layers": 2},
    "neuralop-uno": {"width": 4, "modes": 3},
    "neuralop-local-no": {"width": 4, "modes": 4, "layers": 1},
    "vit": {"width": 16, "depth": 1, "heads": 2},
    "monai-unet": {"width": 4, "levels": 2, "units": 1},
    "deeponet": {"width": 16, "terms": 16, "sensors": 8},
    "dpot": {"checkpoint": str(FIXTURES / "dpot")},
    "mpp": {"checkpoint": str(FIXTURES / "mpp")},
    "morph": {"checkpoint": str(FIXTURES / "morph"), "heads": 2, "heads_xa": 4},
    "pde-transformer": {"checkpoint": str(FIXTURES / "pdetransformer")},
}
"""Arguments by family; a family that is not named here is small as it is."""
TINY = {"poseidon": tiny_poseidon, "pde-transformer-sc": tiny_separate}
"""Checkpoints of families whose fixtures take long to train."""


def models() -> list[str]:
    """One name of each family: its shortest, e.g. ``fno`` of ``fno-64k`` … ``fno-256m``."""
    families: dict[str, str] = {}
    for entry in sorted(registry().entries("models"), key=lambda entry: len(entry.name)):
        families.setdefault(entry.family or entry.name, entry.name)
    return sorted(families.values())


def distributions() -> list[str]:
    """One distribution of the shipped suites for each system, sampler and setting that is no number."""
    kinds: dict[str, str] = {}
    for name in registry().names("suites"):
        for title, distribution in load_suite(name).distributions.items():
            if distribution.files is None:
                words = sorted((key, value) for key, value in distribution.settings.items() if isinstance(value, str))
                kinds.setdefault(str((distribution.system, distribution.sampler, words)), f"{name}:{title}")
    return sorted(kinds.values())


def claims(checks: tuple[Any, ...]) -> list[str]:
    return [check.__name__.removeprefix("check_") for check in checks]


def test_no_plugin_failed_to_load() -> None:
    assert [plugin.name for plugin in registry().plugins if plugin.failure] == []


def test_every_entry_can_be_imported() -> None:
    for kind in KINDS:
        for name in registry().names(kind):
            if kind == "suites":
                load_suite(name)
            else:
                registry().load(kind, name)


@pytest.mark.parametrize("claim", claims(MODEL_CHECKS))
@pytest.mark.parametrize("name", models())
def test_model(name: str, claim: str) -> None:
    if missing := registry().get("models", name).missing:
        pytest.skip(f"needs {missing}, an optional extra")
    in_pytest(checks_of(name)[claim])


@cache
def checks_of(name: str) -> dict[str, Check]:
    """All checks of one model: they share its fits."""
    arguments = {"checkpoint": TINY[name]()} if name in TINY else SMALL.get(name, {})
    return dict(checks_of_model(name, None, **arguments))


@pytest.mark.parametrize("claim", claims(DISTRIBUTION_CHECKS))
@pytest.mark.parametrize("reference", distributions())
def test_distribution(reference: str, claim: str) -> None:
    in_pytest(dict(checks_of_distribution(reference))[claim])


@pytest.mark.parametrize("claim", claims(METRIC_CHECKS))
@pytest.mark.parametrize("name", registry().names("metrics"))
def test_metric(name: str, claim: str) -> None:
    in_pytest(dict(checks_of_metric(name))[claim])


@pytest.mark.parametrize("claim", claims(PROTOCOL_CHECKS))
@pytest.mark.parametrize("name", registry().names("protocols"))
def test_protocol(name: str, claim: str) -> None:
    in_pytest(dict(checks_of_protocol(name))[claim])
