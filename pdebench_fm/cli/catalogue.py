"""``pdefm list``, ``pdefm show`` and ``pdefm plugins``: what is registered, and by whom."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from textwrap import fill
from typing import Any

import click

from pdebench_fm._util.text import printable, terminal_width
from pdebench_fm.cli import completion
from pdebench_fm.registry import KINDS, Kind, registry

_FILLED_IN = ("output", "device", "workers", "system")
"""Arguments of executors and solvers that are filled in."""


@click.command("list")
@click.argument("kind", metavar="KIND", type=click.Choice(KINDS))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_entries(kind: Kind, as_json: bool) -> None:
    """List the registered entries of one KIND, e.g. systems, samplers, models, protocols, metrics or suites."""
    entries = [{"name": entry.name, "summary": _summary(entry)} for entry in registry().entries(kind)]
    if as_json:
        click.echo(json.dumps(entries, indent=1))
        return
    width = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        _say(entry["name"], entry["summary"], width + 2)


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice([*(kind.removesuffix("s") for kind in KINDS), *KINDS]))
@click.argument("name", shell_complete=completion.entries)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(kind: str, name: str, as_json: bool) -> None:
    """Show one entry: its version, who registered it, and the arguments or settings it takes.

    KIND is e.g. system, sampler, model, protocol, metric or suite; NAME is one of those that pdefm list prints.
    """
    about = _about(next(k for k in KINDS if kind in (k, k.removesuffix("s"))), name)
    if as_json:
        click.echo(json.dumps(about, indent=1))
        return
    width = max(len(key) for key in about)
    for key, value in about.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}={v}" for k, v in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        _say(key, value, width + 2)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """Show every installed plugin, what it registers, and why any of them failed."""
    found = [
        {
            "name": plugin.name,
            "module": plugin.module,
            "distribution": plugin.distribution,
            "failure": plugin.failure,
            "entries": {kind: list(names) for kind, names in plugin.entries.items()},
        }
        for plugin in registry().plugins
    ]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    for plugin in found:
        entries: Any = plugin["entries"]
        registered = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in entries.items())
        _say(f"{plugin['name']} ({plugin['distribution'] or plugin['module']})  {registered}")
        if plugin["failure"]:
            _say(f"  failed: {plugin['failure']}")


def _summary(entry: Any) -> str:
    missing = getattr(entry, "missing", "")
    return f"{entry.summary}; {missing} is not installed" if missing else str(entry.summary)


def _say(head: str, text: str = "", indent: int = 4) -> None:
    """One line, whatever a plugin put into it; on a terminal, folded."""
    shown = printable(" ".join(f"{head:<{indent}}{text}".splitlines()), 4000)
    width = max(terminal_width(), indent + 20)
    click.echo(fill(shown, width, subsequent_indent=" " * indent, break_on_hyphens=False))


def _about(kind: Kind, name: str) -> dict[str, Any]:
    from pdebench_fm.registry.arguments import bind, qualified_name

    found = registry()
    entry = found.get(kind, name)
    about: dict[str, Any] = {"name": entry.name, "summary": entry.summary, "registered by": found.owner(kind, name)}
    if kind == "suites":
        from pdebench_fm.suite.reading import load_suite

        suite = load_suite(name)
        about |= {
            "version": suite.version,
            "file": str(entry.path),
            "description": suite.description.strip(),
            "profiles": [*suite.profiles],
            "distributions": [*suite.distributions],
            "tasks": [task.name for task in suite.tasks],
        }
        return about
    about["version"] = entry.version
    factory = found.load(kind, name)
    about["factory"] = qualified_name(factory)
    if kind == "models":
        known = bind(factory, entry.arguments, complete=False)
        arguments = {key: known.get(key, "(required)") for key in inspect.signature(factory).parameters}
        about |= {"family": entry.family or name, "arguments": arguments}
    elif kind == "systems":
        from pdebench_fm.data.open import make_system
        from pdebench_fm.problem import Grid

        problem = make_system(name, found, Grid(64)).problem
        about |= {"inputs": list(problem.input_names), "outputs": list(problem.output_names), "sampler": entry.sampler}
    elif kind == "samplers":
        from pdebench_fm.suite.schema import RESERVED

        about["settings"] = [str(p) for p in _parameters(factory) if p.name not in RESERVED]
    elif settings := [str(p) for p in _parameters(factory) if p.name not in _FILLED_IN]:
        about["settings"] = settings
    return about


def _parameters(factory: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    try:
        return inspect.signature(factory, eval_str=True).parameters.values()
    except Exception:  # the types of some names may be known to type checkers alone
        return inspect.signature(factory).parameters.values()
