"""The peer of an ablation must compute the same."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pdefm_fno import spectral_convolution
from pdefm_fno.network import FourierNetwork


@pytest.fixture
def fft(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("by_fft")


@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "inverse"])
@pytest.mark.parametrize(("n", "m"), [(16, 3), (16, 7), (16, 8), (15, 4)])
def test_transforms_by_fft_are_those_by_products(fft: ModuleType, n: int, m: int, direction: int) -> None:
    tables = spectral_convolution.tables(n, m, torch.float64, torch.device("cpu"))[direction]
    field = torch.randn(n, n, 2, 3, dtype=torch.float64)
    parts = spectral_convolution.transform(field, tables)
    assert torch.allclose(fft.transform(field, tables), parts, atol=1e-12)
    again = spectral_convolution.transposed(parts, tables)
    assert torch.allclose(fft.transposed(parts, tables), again, atol=1e-12)
    assert torch.allclose(fft.transposed(parts, tables, onto=field.clone()), field + again, atol=1e-12)


def test_the_network_takes_the_same_step_with_them(fft: ModuleType) -> None:
    network = FourierNetwork(1, 2, 1, width=4, modes=3).double()
    fields, constants = torch.randn(2, 1, 16, 16, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(network(fields, constants).square().sum(), list(network.parameters())))

    expected = gradients()
    with fft.by_fft():
        found = gradients()
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-12)
