"""Profiles that suites share: how they are named, found and overridden, and where errors in them point."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.errors import SuiteError
from pdebench_fm.registry.discovery import Registry, registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.suite.scale import Profile
from tests.support.fake_plugin import fake_registry

SUITE, _, INLINE = (Path(__file__).parents[1] / "support" / "shipped.yaml").read_text().partition("  tiny:\n")
FILE = "".join(line.removeprefix("    ") for line in INLINE.splitlines(keepends=True))


@pytest.fixture(scope="module")
def toys() -> Registry:
    return fake_registry()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a profile file ``profiles/tiny.yaml``."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.yaml").write_text(FILE)
    return tmp_path


def profile(folder: Path, toys: Registry, given: str) -> Profile:
    path = folder / "s.yaml"
    path.write_text(f"{SUITE}  tiny: {given}\n")
    return load_suite(path, toys).profile("tiny")


def test_a_profile_is_used_by_name_or_by_path(folder: Path, toys: Registry) -> None:
    inline = load_suite("shipped", toys).profile("tiny")
    (folder / "mine.yml").write_text(FILE)
    for given in ("tiny", "profiles/tiny.yaml", "mine.yml", "{use: tiny}", "{use: mine.yml}"):
        assert profile(folder, toys, given) == inline


def test_overrides_are_merged_key_by_key_and_lists_replaced(folder: Path, toys: Registry) -> None:
    base = profile(folder, toys, "tiny")
    changed = profile(folder, toys, "{use: tiny, seeds: 3, examples: {downstream: [2]}}")
    assert changed.seeds == 3
    assert changed.examples == base.examples.model_copy(update={"downstream": (2,)})
    assert (changed.grid, changed.training) == (base.grid, base.training)


def test_an_override_without_a_value_removes_a_key(folder: Path, toys: Registry) -> None:
    training = profile(folder, toys, "{use: tiny, training: {epochs: , steps: 5}}").training
    assert (training.epochs, training.steps) == (None, 5)


def test_shipped_profiles_are_found_by_name_from_any_folder(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    shipped = load_suite("ood_sys1")
    text = shipped.source.read_text().replace("lite: lite", "lite: {use: lite, seeds: 2}")
    path.write_text(text)
    suite = load_suite(path)
    assert suite.profile("paper") == shipped.profile("paper")
    assert suite.profile("lite") == shipped.profile("lite").model_copy(update={"seeds": 2})


def test_a_profile_beside_the_suite_goes_before_a_shipped_one(folder: Path) -> None:
    (folder / "profiles" / "lite.yaml").write_text(FILE)
    path = folder / "s.yaml"
    path.write_text(load_suite("ood_sys1").source.read_text())
    assert load_suite(path, registry()).profile("lite").grid == 8


ERRORS = {
    "unknown name": ("tinny", "s.yaml", "14:9: profiles.tiny", "did you mean 'tiny'?"),
    "unknown name in use": ("{use: tinny}", "s.yaml", "14:15: profiles.tiny.use", "did you mean 'tiny'?"),
    "no name": ("{use: 3}", "s.yaml", "14:15: profiles.tiny.use", "got 3"),
    "missing file": ("mine.yaml", "s.yaml", "14:9: profiles.tiny", "no such file"),
    "use misspelt": ("{usee: tiny}", "s.yaml", "14:10: profiles.tiny.usee", "did you mean 'use'?"),
    "override": ("{use: tiny, seeds: 0}", "s.yaml", "14:28: profiles.tiny.seeds", "at least 1"),
}


@pytest.mark.parametrize(("given", "file", "place", "hint"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_in_the_suite_points_there(
    folder: Path, toys: Registry, given: str, file: str, place: str, hint: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        profile(folder, toys, given)
    assert str(caught.value).startswith(f"{folder / file}:{place}: ")
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("grid: 8", "grid: 4", "1:7: profiles.tiny.grid"),
        ("grid: 8", "gird: 8", "1:1: profiles.tiny.gird"),
        ("epochs: 2", "epochs: 2, steps: 3", "3:11: profiles.tiny.training"),
        ("grid: 8", "grid: [8", "2:9: is not valid YAML"),
    ],
)
def test_an_error_in_a_profile_file_points_there(folder: Path, toys: Registry, old: str, new: str, place: str) -> None:
    file = folder / "profiles" / "tiny.yaml"
    file.write_text(FILE.replace(old, new))
    with pytest.raises(SuiteError) as caught:
        profile(folder, toys, "{use: tiny, seeds: 2}")
    assert str(caught.value).startswith(f"{file}:{place}: ")
