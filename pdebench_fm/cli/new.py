"""``pdefm new``: a package to start from, which passes the gate and its own test."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, NamedTuple

import click

from pdebench_fm._util.text import show
from pdebench_fm.cli.context import current_registry
from pdebench_fm.errors import UsageError

if TYPE_CHECKING:
    from pdebench_fm.registry.discovery import Kind


class _Kind(NamedTuple):
    """What differs between kinds of plugins: the entries of ``__init__.py``, and the test."""

    registered: Kind
    entries: str
    hooks: str
    test: str


_KINDS = {
    "model": _Kind(
        "models",
        "ModelEntry",
        'def pdefm_models():\n    return [ModelEntry("$name", "1", "$module.$module:$class_", "a network")]',
        'model_checks("$name")',
    ),
    "protocol": _Kind(
        "protocols",
        "ProtocolEntry",
        'def pdefm_protocols():\n    return [ProtocolEntry("$name", "1", "$module.$module:$class_", "smaller steps")]',
        'protocol_checks("$name")',
    ),
    "metric": _Kind(
        "metrics",
        "MetricEntry",
        'def pdefm_metrics():\n    return [MetricEntry("$name", "1", "$module.$module:$class_", "mean error")]',
        'metric_checks("$name")',
    ),
    "system": _Kind(
        "systems",
        "SamplerEntry, SuiteEntry, SystemEntry",
        "def pdefm_systems():\n"
        '    return [SystemEntry("$name", "1", "$module.$module:$class_", "−Δu + u = f", sampler="$name")]\n\n\n'
        "@hookimpl\n"
        "def pdefm_samplers():\n"
        '    return [SamplerEntry("$name", "1", "$module.$module:${class_}Sampler", "two waves")]\n\n\n'
        "@hookimpl\n"
        "def pdefm_suites():\n"
        '    return [SuiteEntry("$name", Path(__file__).with_name("$module.yaml"), "a suite of one task")]',
        'distribution_checks("$name:D(1,3)")',
    ),
}
_SUITE = """\
name: $name
version: 1
description: One task, from small to larger wavenumbers.
default_profile: smoke
distributions:
  D(1,3): {system: $name, largest: 3}
  D(1,5): {system: $name, largest: 5}
pretraining:
  low: [D(1,3)]
tasks:
  - {name: D(1,5), pretraining: low, downstream: D(1,5), shift: mild}
protocols: [zero-shot, fine-tune, scratch]
profiles:
  smoke:
    grid: 32
    examples: {pretraining: 64, validation: 16, test: 16, downstream: [8]}
    training: {epochs: 5, batch_size: 16, learning_rates: [1e-3]}
    fine_tuning: {epochs: 5, learning_rates: [1e-4]}
"""


@click.command()
@click.argument("kind", type=click.Choice(list(_KINDS)))
@click.argument("name")
def new(kind: str, name: str) -> int:
    """Write a package for a model, system, metric or protocol NAME into a folder of that name.

    It can be installed with pip, passes ``pdefm check``, and has a test of its own.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,40}", name):
        raise UsageError(f"a name is lower-case letters, digits, '-' and '_', at most 41 of them, got {show(name)}")
    folder, module = Path(name), name.replace("-", "_")
    if folder.exists():
        raise UsageError(f"{folder}: exists already")
    if keyword.iskeyword(module) or find_spec(module) is not None:
        raise UsageError(f"{name}: Python has something of that name; take another")
    if name in current_registry().names(_KINDS[kind].registered):
        raise UsageError(f"{name}: is a registered {kind}; take another name, or see `pdefm show {kind} {name}`")
    words = {"name": name, "module": module, "class_": "".join(part.title() for part in module.split("_"))}
    for path, text in _package(kind, module).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute(words), encoding="utf-8")
    what = f"distribution '{name}:D(1,3)'" if kind == "system" else f"{kind} {name}"
    click.echo(f"pip install -e ./{folder}\npdefm check {what}\npytest {folder}")
    return 0


def _package(kind: str, module: str) -> dict[str, str]:
    """Return the files of a package and their templates."""
    chosen, templates = _KINDS[kind], files("pdebench_fm.cli") / "templates"
    path = "from pathlib import Path\n\n" if kind == "system" else ""
    checks = chosen.test.partition("(")[0]
    return {
        "pyproject.toml": (templates / "pyproject.toml.txt").read_text(encoding="utf-8"),
        f"{module}/__init__.py": f'"""Registers $name."""\n\n{path}from pdebench_fm.hookspecs import {chosen.entries}, '
        f"hookimpl\n\n\n@hookimpl\n{chosen.hooks}\n",
        f"{module}/{module}.py": (templates / f"{kind}.py.txt").read_text(encoding="utf-8"),
        **({f"{module}/{module}.yaml": _SUITE} if kind == "system" else {}),
        f"tests/test_{module}.py": f"from pdebench_fm.testing import {checks}\n\n\n@{chosen.test}\n"
        "def test_it_keeps_the_interface(check):\n    check()\n",
    }
