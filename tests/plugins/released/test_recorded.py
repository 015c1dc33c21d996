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


@pytest.mark.parametrize(("name", "wrap"), [("dpot", "model"), ("mpp", "model_state"), ("morph", "model_state_dict")])
def test_the_other_layouts_of_the_same_weights(name, wrap, tmp_path):
    family = FAMILIES[name]
    loaded = family.load(family.file, **family.arguments).state_dict()
    bare = {each.removeprefix("module."): tensor for each, tensor in family.tensors().items()}
    prefixed = {f"module.{each}": tensor for each, tensor in bare.items()}
    for i, content in enumerate((bare, prefixed, {wrap: bare, "epoch": 3}, {wrap: prefixed, "optimizer": {"lr": 1.0}})):
        path = tmp_path / f"{i}_{family.file.name}"
        torch.save(content, path)
        again = family.load(path, **family.arguments).state_dict()
        assert again.keys() == loaded.keys()
        assert all(torch.equal(again[each], loaded[each]) for each in loaded)
