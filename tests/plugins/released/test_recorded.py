"""Every network predicts what the published code predicted with the same tensors."""

import pytest
import torch

from tests.plugins.released.families import FAMILIES, cases

RECORDED = [(name, case) for name, family in FAMILIES.items() for case in cases(family)]


@pytest.mark.parametrize(("name", "case"), RECORDED)
def test_a_recorded_case_is_reproduced(name, case, tmp_path):
    family = FAMILIES[name]
    recorded = cases(family)[case]
    path = family.folder if family.file.suffix == ".safetensors" else family.file
    if recorded["replace"]:
        path = family.rewritten(tmp_path, family.tensors() | recorded["replace"])
    network = family.load(path, **family.arguments)
    with torch.no_grad():
        got = family.call(network, recorded["in"], recorded["options"])
    assert set(got) & set(recorded["out"]) & {"output", "sample"}
    for output in set(got) & set(recorded["out"]):
        wanted = recorded["out"][output]
        assert got[output].shape == wanted.shape
        assert (got[output] - wanted).abs().max() <= 1e-4 * max(1.0, wanted.abs().max())
