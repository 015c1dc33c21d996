"""One thread a test process: two of them run side by side, and small tensors gain nothing from more.

And no GPU but for the tests that are marked for one (``pytest -m gpu``): the others hold scores to the digit, which a
GPU computes in another order.
"""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
