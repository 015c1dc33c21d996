"""What a protocol, which may be somebody else's, says of itself."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest
from pdefm_baselines.reference import Zero
from pdefm_transfer.protocols import FineTune

from pdebench_fm.errors import PluginError
from pdebench_fm.plan.arms import make_arm
from pdebench_fm.registry.discovery import registry

SIZES = (8, 32)


def test_seeds_multiply_every_size_but_the_zero_shot_one() -> None:
    assert list(make_arm("zero-shot", SIZES, 64, registry()).cells(3)) == [(0, 0)]
    assert list(make_arm("fine-tune", SIZES, 64, registry()).cells(2)) == [(8, 0), (8, 1), (32, 0), (32, 1)]
    assert list(make_arm("scratch", (8,), 64, registry()).cells(2)) == [(0, 0), (0, 1), (8, 0), (8, 1)]


def test_sizes_of_numpy_are_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FineTune, "sizes", lambda _, downstream: np.array(downstream))
    arm = make_arm("fine-tune", SIZES, 64, registry())
    assert arm.sizes == SIZES
    assert all(type(size) is int for size in arm.sizes)  # they become part of job ids


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("sizes", lambda *_: 1 / 0, "sizes: ZeroDivisionError: division by zero"),
        ("sizes", lambda *_: sys.exit("no licence"), "sizes: SystemExit: no licence"),
        ("sizes", lambda *_: [32, 8], r"sizes must be rising whole numbers from 0 up, at least one, got \[32, 8\]"),
        ("sizes", lambda *_: [8, 8], r"sizes must be rising whole numbers from 0 up, at least one, got \[8, 8\]"),
        ("sizes", lambda *_: [-1], r"sizes must be rising whole numbers from 0 up, at least one, got \[-1\]"),
        ("sizes", lambda *_: [True], r"sizes must be rising whole numbers from 0 up, at least one, got \[true\]"),
        ("sizes", lambda *_: ["8"], "sizes must be rising whole numbers from 0 up"),
        ("sizes", lambda *_: [8, 65], "sizes must be at most 64, the size of the pool, got 65"),
        ("sizes", lambda *_: [], "sizes must be rising whole numbers from 0 up, at least one, got "),
        ("sizes", lambda *_: None, "sizes: TypeError"),
        ("starts_from", "somewhere", "starts_from must be 'pretrained' or 'initialised', got 'somewhere'"),
        ("__init__", lambda _: 1 / 0, "cannot be made: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_is_one_line_that_names_the_protocol(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, says: str
) -> None:
    monkeypatch.setattr(FineTune, name, value)
    with pytest.raises(PluginError, match=f"^protocol 'fine-tune': {says}"):
        make_arm("fine-tune", SIZES, 64, registry())


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda: 1 / 0, ": ZeroDivisionError: division by zero"),
        (lambda: "", " must return None or the reason as a text, got ''"),
        (lambda: False, " must return None or the reason as a text, got false"),
    ],
)
def test_a_refusal_is_a_reason_or_none(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[], object], says: str
) -> None:
    monkeypatch.setattr(FineTune, "refuses", lambda *_: answer())
    with pytest.raises(PluginError, match=f"^protocol 'fine-tune': refuses{says}$"):
        make_arm("fine-tune", SIZES, 64, registry()).refusal_of(Zero())
