"""A protocol of a suite at the sizes of a profile."""

from __future__ import annotations

import numpy as np
import pytest
from pdefm_baselines.reference import Zero
from pdefm_transfer.protocols import FineTune

from pdebench_fm.errors import PluginError, UsageError
from pdebench_fm.plan.arms import Arm, make_arm
from pdebench_fm.plan.protocol import protocol_spec
from pdebench_fm.registry import registry


def arm(name: str, sizes: tuple[int, ...] = (8, 32)) -> Arm:
    return make_arm(protocol_spec(registry(), name, {}), sizes, 64, registry())


def test_seeds_multiply_every_size_but_the_zero_shot_one() -> None:
    assert list(arm("zero-shot").cells(3)) == [(0, 0)]
    assert list(arm("fine-tune").cells(2)) == [(8, 0), (8, 1), (32, 0), (32, 1)]
    assert list(arm("scratch", (8,)).cells(2)) == [(0, 0), (0, 1), (8, 0), (8, 1)]


def test_arguments_that_make_no_name_of_an_arm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FineTune, "__init__", lambda self, recipe="": None)
    assert protocol_spec(registry(), "fine-tune", {"recipe": "a/b.yaml"}).label == "fine-tune(recipe=a/b.yaml)"
    for recipe in ("x" * 200, "two\nlines"):
        with pytest.raises(UsageError, match=r"protocol fine-tune: .* one line of at most 200 characters"):
            protocol_spec(registry(), "fine-tune", {"recipe": recipe})


def test_sizes_of_numpy_are_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FineTune, "sizes", lambda _, downstream: np.array(downstream))
    made = arm("fine-tune")
    assert made.sizes == (8, 32)
    assert all(type(size) is int for size in made.sizes)  # they become part of job ids


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("sizes", lambda *_: 1 / 0, "sizes: ZeroDivisionError"),
        ("sizes", lambda *_: [8, 65], "sizes must be"),
        ("sizes", lambda *_: [], "sizes must be"),
        ("__init__", lambda _: 1 / 0, "cannot be made: ZeroDivisionError"),
    ],
)
def test_a_protocol_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: object, says: str) -> None:
    monkeypatch.setattr(FineTune, name, value)
    with pytest.raises(PluginError, match=f"^protocol 'fine-tune': {says}"):
        arm("fine-tune")


def test_a_refusal_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "warm_starts" in (arm("fine-tune").refusal_of(Zero()) or "")
    monkeypatch.setattr(FineTune, "refuses", lambda *_: "")
    with pytest.raises(PluginError, match=r"^protocol 'fine-tune': refuses"):
        arm("fine-tune").refusal_of(Zero())
