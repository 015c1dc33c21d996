"""Find, read and check suites."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from pdebench_fm._util.text import show
from pdebench_fm.errors import PdefmError, SettingError, SuiteError, UnknownNameError, UsageError
from pdebench_fm.registry import Registry
from pdebench_fm.registry import registry as installed
from pdebench_fm.registry.arguments import bind, call
from pdebench_fm.registry.calling import call_plugin
from pdebench_fm.registry.loading import to_standard_error
from pdebench_fm.suite.positions import Document, explain, read
from pdebench_fm.suite.profiles import with_profiles
from pdebench_fm.suite.schema import RESERVED, Distribution, Suite


@to_standard_error()
def load_suite(reference: str | Path, registry: Registry | None = None) -> Suite:
    """Read and check a suite.

    Args:
        reference: a path (it has a separator, ends in .yaml or .yml, or is a file), or the name of a registered suite.
    """
    registry = registry if registry is not None else installed()
    document = with_profiles(read(_locate(reference, registry)), registry)
    context = {"folder": document.folder}
    try:
        suite = Suite.model_validate_json(json.dumps(document.data), context=context)
    except ValidationError as error:
        raise explain(error, document, Suite) from None
    for i, protocol in enumerate(suite.protocols):
        with _pointing(document, "protocols", i):
            entry, factory = registry.get("protocols", protocol.name), registry.load("protocols", protocol.name)
            arguments = bind(factory, {**entry.arguments, **protocol.arguments})
            call_plugin(f"protocol {protocol.name!r} cannot be made", call, factory, arguments)
    for name, pretraining in suite.pretraining.items():
        if (objective := pretraining.objective) is not None:
            with _pointing(document, "pretraining", name, "objective"):
                factory = registry.load("objectives", objective.name)
                call(factory, bind(factory, objective.arguments))
    for name, distribution in suite.distributions.items():
        _check_distribution(name, distribution, suite.data_seed, registry, document)
    suite._source = document.path
    return suite


def find_suite(name: str, version: int, registry: Registry, own: Sequence[Suite] = ()) -> Suite | None:
    """Return a suite by name and version, or None if it is not available; ``own`` come before registered ones."""
    for suite in own:
        if (suite.name, suite.version) == (name, version):
            return suite
    try:
        suite = load_suite(registry.get("suites", name).path, registry)
    except PdefmError:  # not registered, or no longer valid
        return None
    return suite if suite.version == version else None


def _locate(reference: str | Path, registry: Registry) -> Path:
    path = Path(reference)
    written = isinstance(reference, Path) or os.sep in reference or path.suffix in (".yaml", ".yml")
    if written or path.is_file():
        return path
    return Path(registry.get("suites", str(reference)).path)


def _check_distribution(
    name: str, distribution: Distribution, data_seed: int, registry: Registry, document: Document
) -> None:
    """Make the sampler, because only its constructor knows which settings are valid."""
    where = ("distributions", name)
    if distribution.system is not None:
        with _pointing(document, *where, "system"):
            registry.get("systems", distribution.system)
    if distribution.files is not None:
        return
    with _pointing(document, *where, "sampler" if distribution.sampler is not None else "system"):
        sampler = distribution.sampler_name(registry)
        factory = registry.load("samplers", sampler)
        try:
            settings = bind(factory, distribution.settings, reserved=RESERVED)
            who = f"sampler {sampler!r} of {registry.owner('samplers', sampler)} cannot be made"
            call_plugin(who, call, factory, settings, data_seed=data_seed, split="train")
        except SettingError as error:
            raise _setting_error(error, distribution, document, where) from error


def _setting_error(
    error: SettingError, distribution: Distribution, document: Document, where: tuple[str, str]
) -> SuiteError:
    """Point at the value of the setting, at the item that the error names, or at the key if it is unknown."""
    key, *items = re.findall(r"[^\[\]]+", error.setting) or [error.setting]
    if error.setting in distribution.settings:
        key, items = error.setting, []
    path = (*where, key, *(int(item) if item.isdecimal() else item for item in items))
    return document.error(path, error.message, at_key=error.message.startswith("unknown setting"))


@contextmanager
def _pointing(document: Document, *where: str | int) -> Iterator[None]:
    """Turn errors into `SuiteError`s that point at a value."""
    try:
        yield
    except SuiteError:
        raise
    except PdefmError as error:
        raise document.error(where, str(error)) from error


def find_distribution(reference: str, registry: Registry | None = None) -> tuple[Suite, str]:
    """Return the suite and the name of a distribution given as ``SUITE:NAME``."""
    source, colon, name = reference.rpartition(":")
    if not colon:
        raise UsageError(f"a distribution is given as SUITE:NAME, e.g. ood_sys1:SYS-1(1,5), got {show(reference)}")
    suite = load_suite(source, registry)
    if name not in suite.distributions:
        raise UnknownNameError("distribution", name, suite.distributions)
    return suite, name
