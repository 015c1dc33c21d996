"""Find, read and check suites."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pdebench_fm._util.text import printable, reason_of
from pdebench_fm.errors import PLUGIN_ERRORS, PdefmError, SettingError, SuiteError, UnknownNameError, UsageError
from pdebench_fm.registry import Kind, Registry
from pdebench_fm.registry import registry as installed
from pdebench_fm.registry.arguments import bind, call
from pdebench_fm.suite.positions import Document, explain, read
from pdebench_fm.suite.profiles import with_profiles
from pdebench_fm.suite.schema import RESERVED, Distribution, Suite


def load_suite(reference: str | Path, registry: Registry | None = None) -> Suite:
    """Read and check a suite.

    Args:
        reference: a path (it has a separator, ends in .yaml or .yml, or is a file), or the name of a registered suite.
        registry: knows its systems, samplers and protocols; by default everything installed.

    Raises:
        SuiteError: the suite is invalid. The text is ``file:line:column: key.path: what is wrong``.
        UnknownNameError: no registered suite has that name.
    """
    registry = registry if registry is not None else installed()
    document = with_profiles(read(_locate(reference, registry)), registry)
    context = {"folder": document.path.absolute().parent}
    try:
        suite = Suite.model_validate_json(json.dumps(document.data), context=context)
    except ValidationError as error:
        raise explain(error, document, Suite) from None
    for i, protocol in enumerate(suite.protocols):
        _registered(registry, "protocols", protocol.name, document, "protocols", i)
        try:
            bind(registry.load("protocols", protocol.name), protocol.arguments)
        except PdefmError as error:
            raise document.error(("protocols", i), f"{protocol.name}: {error}") from error
    for name, distribution in suite.distributions.items():
        _check_distribution(name, distribution, suite.data_seed, registry, document)
    suite._source = document.path
    return suite


def find_suite(name: str, version: int, registry: Registry, own: Sequence[Suite] = ()) -> Suite | None:
    """Return a suite by name and version, or None if it is not available.

    Args:
        name: name of the suite.
        version: version of the suite; the registered one may be another.
        registry: knows the suite and everything it names.
        own: more suites, which come before registered ones.
    """
    for suite in own:
        if (suite.name, suite.version) == (name, version):
            return suite
    try:
        suite = load_suite(registry.get("suites", name).path, registry)
    except PdefmError:  # not registered, or no longer valid
        return None
    return suite if suite.version == version else None


def _locate(reference: str | Path, registry: Registry) -> Path:
    text = str(reference)
    separators = {os.sep, os.altsep or os.sep, "/"}
    is_path = isinstance(reference, Path) or text.endswith((".yaml", ".yml")) or any(s in text for s in separators)
    if is_path or Path(text).is_file():
        return Path(reference)
    return Path(registry.get("suites", text).path)


def _check_distribution(
    name: str, distribution: Distribution, data_seed: int, registry: Registry, document: Document
) -> None:
    where = ("distributions", name)
    if distribution.system is not None:
        _registered(registry, "systems", distribution.system, document, *where, "system")
    if distribution.files is not None:
        return
    source = (*where, "sampler" if distribution.sampler is not None else "system")
    try:
        sampler = distribution.sampler_name(registry)
        factory = registry.load("samplers", sampler)
    except PdefmError as error:
        raise document.error(source, str(error)) from error
    try:
        settings = bind(factory, distribution.settings, reserved=RESERVED)
        call(factory, settings, data_seed=data_seed, split="train")
    except SettingError as error:
        raise _setting_error(error, distribution, document, where) from error
    except PLUGIN_ERRORS as error:
        owner = registry.owner("samplers", sampler)
        raise document.error(source, f"sampler {sampler!r} of {owner} cannot be made: {reason_of(error)}") from error


def _setting_error(
    error: SettingError, distribution: Distribution, document: Document, where: tuple[str, str]
) -> SuiteError:
    """Point at the value of the setting, at the item that the error names, or at the key if it is unknown."""
    key, *items = re.findall(r"[^\[\]]+", error.setting) or [error.setting]
    if error.setting in distribution.settings:
        key, items = error.setting, []
    path = (*where, key, *(int(item) if item.isdecimal() else item for item in items))
    return document.error(path, error.message, at_key=error.message.startswith("unknown setting"))


def _registered(registry: Registry, kind: Kind, name: str, document: Document, *where: str | int) -> None:
    try:
        registry.get(kind, name)
    except PdefmError as error:
        raise document.error(where, str(error)) from error


def find_distribution(reference: str, registry: Registry | None = None) -> tuple[Suite, str]:
    """Return the suite and the name of a distribution given as ``SUITE:NAME``; both parts may have colons.

    Args:
        reference: the text, split at the last colon that gives a suite with such a distribution.
        registry: as for `load_suite`.

    Raises:
        UsageError: there is no colon.
        SuiteError: the suite is invalid.
        UnknownNameError: no such suite, or no such distribution in it.
    """
    colons = [i for i, character in enumerate(reference) if character == ":"]
    first: Exception | None = None
    for i in reversed(colons):
        source, name = reference[:i], reference[i + 1 :]
        try:
            suite = load_suite(source, registry)
            if name not in suite.distributions:
                raise UnknownNameError("distribution", printable(name), suite.distributions)
            return suite, name
        except UsageError as error:
            found = (isinstance(error, UnknownNameError) and error.kind == "distribution") or Path(source).is_file()
            if first is None or found:
                first = error
    if first is not None:
        raise first
    raise UsageError(f"a distribution is given as SUITE:NAME, e.g. ood_sys1:SYS-1(1,5), got {printable(reference)!r}")
