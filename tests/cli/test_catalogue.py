from __future__ import annotations

import functools
import json

import pytest

from pdebench_fm.cli import catalogue
from tests.cli.conftest import Call


def test_settings_are_shown_with_their_types_and_without_what_the_suite_fills_in(call: Call) -> None:
    code, out, _ = call("show", "sampler", "advection-diffusion", "--json")
    assert code == 0
    assert json.loads(out)["settings"] == [
        "ratio: tuple[float, float]",
        "mode: Literal['calibrated', 'exact'] = 'calibrated'",
        "eigenvalue: tuple[float, float] = (1.0, 5.0)",
    ]


def test_a_type_that_only_type_checkers_know_is_shown_as_it_is_written(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sampler(level: Level = 3, *, data_seed: int, split: str) -> None:  # type: ignore[name-defined] # noqa: F821
        raise AssertionError("showing makes nothing")

    found = catalogue.registry()
    monkeypatch.setattr(type(found), "load", lambda self, kind, name: sampler)
    code, out, _ = call("show", "sampler", "poisson", "--json")
    assert code == 0
    assert json.loads(out)["settings"] == ["level: 'Level' = 3"]


def test_a_factory_without_a_name_is_shown_as_what_it_is(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    found = catalogue.registry()
    held = functools.partial(found.load("systems", "poisson"))
    monkeypatch.setattr(type(found), "load", lambda self, kind, name: held)
    code, out, _ = call("show", "system", "poisson", "--json")
    assert code == 0
    assert json.loads(out)["factory"] == repr(held)
