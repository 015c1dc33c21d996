from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pdebench_fm.streams import Stream


@given(st.lists(st.integers(0, 2**50 - 1), min_size=1, max_size=20))
def test_an_example_has_its_numbers_whatever_the_company_and_order(ids: list[int]) -> None:
    stream = Stream("a", 7)
    together = stream.uniform(ids)
    assert all(np.array_equal(together[i], stream.uniform([id])[0]) for i, id in enumerate(ids))


def test_examples_attempts_and_streams_differ() -> None:
    stream = Stream({"seed": 0}, 8)
    values = [stream.uniform([0]), stream.uniform([1]), stream.uniform([0], 1), Stream({"seed": 1}, 8).uniform([0])]
    assert len({value.tobytes() for value in values}) == 4


def test_numbers_are_uniform() -> None:
    values = Stream("uniform", 50).uniform(range(2000)).ravel()
    assert 0 <= values.min() < values.max() < 1
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    chi_squared = ((counts - values.size / 20) ** 2 / (values.size / 20)).sum()
    assert chi_squared < 45  # 19 degrees of freedom: exceeded by chance once in 1,000


def test_no_two_examples_share_numbers() -> None:
    values = Stream("distinct", 6).uniform(range(5000))
    assert np.unique(values).size == values.size


def test_the_stream_is_the_same_on_every_machine_and_version() -> None:
    values = Stream({"golden": [1, 2.5, "x"]}, 150).uniform([0, 1, 2, 1000, 2**40], attempt=3)
    digest = hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()
    assert digest == "54146669fb1193e9f5edf27fb25fb56e2c6b6c568c1e6d24d65d44c4cc92d5d4"
