"""Networks of other sizes than the fixtures' predict what the published code predicts with the same weights.

`fixtures/other_sizes.json` holds, for each case, the sizes and some values of the output of the published code. Weights
and inputs are sines of rising frequency, so that no tensor need be kept.
"""

import json
import zlib
from pathlib import Path

import pytest
import torch
from pdefm_released import dpot, morph, mpp, pde_transformer, pde_transformer_sc, poseidon

CASES = json.loads((Path(__file__).parent / "fixtures" / "other_sizes.json").read_text())
NETWORKS = {
    "poseidon": (poseidon.ScOT, poseidon.Sizes),
    "dpot": (dpot.DPOT, dpot.Sizes),
    "mpp": (mpp.AViT, mpp.Sizes),
    "morph": (morph.MORPH, morph.Sizes),
    "pde-transformer": (pde_transformer.PDETransformer, pde_transformer.Sizes),
    "pde-transformer-sc": (pde_transformer_sc.PDETransformerSC, pde_transformer.Sizes),
}


def sines(name, shape):
    place = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    angles = 1.7 * place + 0.001 * place**2 + zlib.crc32(name.encode()) % 1000
    return torch.sin(angles).reshape(shape).float()


def patterned(network):
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(0.4 * sines(name.removeprefix("model."), parameter.shape))
    return network.eval()


def called(family, network, shape):
    x = sines("input", shape)
    if family == "poseidon":
        return network(pixel_values=x, time=torch.tensor([0.3, 1.0])).output
    if family == "mpp":
        return network(x, torch.tensor([[3, 1]]), torch.tensor([[1, 0]]))
    if family == "morph":
        return network(x)[2]
    if family == "dpot":
        return network(x)[0]
    if family == "pde-transformer":
        return network(x, torch.tensor([0.1, 0.6]), torch.tensor([1, 2])).sample
    index, zero = [torch.tensor([1])] * len(x), [torch.tensor([0.2])] * len(x)
    other = [torch.zeros(1, 5)] * len(x)
    return torch.stack(network(list(x), zero, index, index, other, other, zero, index, zero).sample)


def some(output):
    return output.flatten()[:: max(1, output.numel() // 24)][:24]


@pytest.mark.parametrize("case", CASES)
def test_other_sizes(case):
    recorded = CASES[case]
    network, sizes = NETWORKS[recorded["family"]]
    with torch.no_grad():
        got = some(called(recorded["family"], patterned(network(sizes(**recorded["sizes"]))), recorded["input"]))
    wanted = torch.tensor(recorded["output"])
    assert (got - wanted).abs().max() <= 2e-4 * max(1.0, wanted.abs().max())
