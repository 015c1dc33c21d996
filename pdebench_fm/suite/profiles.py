"""Profiles in files of their own, which several suites share.

A suite uses one as ``lite: lite``, or overrides keys of it: ``lite: {use: lite, seeds: 5}``. A text that ends in .yaml
or .yml is a path relative to the suite. Any other text is a name: ``profiles/NAME.yaml`` beside the suite, or else
beside a registered suite.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pdebench_fm._util.text import show
from pdebench_fm.errors import suggestion
from pdebench_fm.registry import Registry
from pdebench_fm.suite.positions import Document, Place, Where, read

_SUFFIXES = (".yaml", ".yml")


def with_profiles(suite: Document, registry: Registry) -> Document:
    """Return a suite's document with the keys of the profiles it uses."""
    profiles = suite.data.get("profiles")
    for name, given in profiles.items() if isinstance(profiles, dict) else ():
        where: Where = ("profiles", name)
        if isinstance(given, str):
            suite = _using(suite, where, where, given, {}, registry)
        elif isinstance(given, dict) and "use" in given:
            own = {key: value for key, value in given.items() if key != "use"}
            suite = _using(suite, where, (*where, "use"), given["use"], own, registry)
    return suite


def _using(
    suite: Document, where: Where, at: Where, reference: Any, own: dict[str, Any], registry: Registry
) -> Document:
    """Put the profile file ``reference``, named at ``at``, under the profile at ``where``; keys of ``own`` win."""
    base = read(_find(suite, at, reference, registry))
    profiles = {**suite.data["profiles"], where[-1]: _merged(base.data, own)}
    return replace(
        suite,
        data={**suite.data, "profiles": profiles},
        keys={**_below(where, base.keys), **suite.keys},
        values={**_below(where, base.values), **suite.values},
    )


def _merged(base: Any, own: Any) -> Any:
    """Merge mappings key by key; any other value of ``own`` replaces that of ``base``."""
    if isinstance(base, dict) and isinstance(own, dict):
        return {**base, **{key: _merged(base.get(key), value) for key, value in own.items()}}
    return own


def _below(where: Where, places: dict[Where, Place]) -> dict[Where, Place]:
    return {(*where, *path): place for path, place in places.items()}


def _find(suite: Document, at: Where, reference: Any, registry: Registry) -> Path:
    """Return the file of a profile that a suite names."""
    if not isinstance(reference, str):
        raise suite.error(at, f"must be the name or the path of a profile, got {show(reference)}")
    folder = suite.folder
    if reference.endswith(_SUFFIXES):
        if not (folder / reference).is_file():
            raise suite.error(at, f"no such file: {folder / reference}")
        return folder / reference
    shipped = {Path(entry.path).absolute().parent for entry in registry.entries("suites")}
    for folders in ([folder], sorted(shipped - {folder})):
        found = [file for file in _profiles(folders) if file.stem == reference]
        if len(found) > 1:
            raise suite.error(at, f"profile {reference!r} is ambiguous: {found[0]}, {found[1]}; give its path")
        if found:
            return found[0]
    known = {file.stem for file in _profiles([folder, *shipped])}
    raise suite.error(at, f"unknown profile {show(reference)}{suggestion(reference, known)}")


def _profiles(folders: Iterable[Path]) -> list[Path]:
    return [file for folder in folders for file in folder.glob("profiles/*.yaml")]
