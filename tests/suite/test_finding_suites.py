"""Which suite a name, a path or a version stands for; what is in one: `test_suite`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.errors import UnknownNameError
from pdebench_fm.registry.discovery import Registry
from pdebench_fm.suite.reading import find_suite, load_suite
from tests.support.fake_plugin import fake_registry

SHIPPED = Path(__file__).parents[1] / "support" / "shipped.yaml"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return fake_registry()


def test_a_shipped_suite_is_found_by_name(registry: Registry) -> None:
    assert load_suite("shipped", registry) == load_suite(str(SHIPPED), registry)


def test_a_suite_is_at_hand_in_the_version_that_is_registered(registry: Registry) -> None:
    found = find_suite("shipped", 3, registry)
    assert found is not None
    assert (found.name, found.version) == ("shipped", 3)
    assert find_suite("shipped", 2, registry) is None
    assert find_suite("unheard-of", 3, registry) is None


def test_an_unknown_suite_or_profile_names_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown suite 'shiped'; did you mean 'shipped'\?$"):
        load_suite("shiped", registry)
    with pytest.raises(UnknownNameError, match=r"^unknown profile 'tinny'; did you mean 'tiny'\?$"):
        load_suite("shipped", registry).profile("tinny")
    with pytest.raises(UnknownNameError):
        load_suite("", registry)
