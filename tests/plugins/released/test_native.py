"""The recipes are those that the authors publish."""

import json
import math

import pytest
import torch
from pdefm_released import native

from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.registry.discovery import registry
from pdebench_fm.testing.examples import SmoothExamples
from tests.plugins.released.families import FAMILIES
from tests.plugins.released.test_models import MODELS, made, problem
from tests.plugins.released.tiny import scattered


def published(family):
    return json.loads((FAMILIES[family].folder / "param_groups.json").read_text())


def grouped(network, groups):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [[names[id(parameter)] for parameter in group["params"]] for group in groups]


def test_poseidon_groups():
    network = FAMILIES["poseidon"].load(FAMILIES["poseidon"].folder)
    groups = native.poseidon_groups(network)
    for (name, wanted), got, group in zip(
        published("poseidon")["groups"].items(), grouped(network, groups), groups, strict=True
    ):
        assert set(got) == set(wanted)
        assert group["factor"] == (10 if name in ("embeddings", "time_embedding") else 1)
        assert group["weight_decay"] == (1e-6 if name in ("standard", "embeddings") else 0)


@pytest.mark.parametrize("level", [1, 2, 3])
def test_morph_levels(level):
    family = FAMILIES["morph"]
    network = family.load(family.file, **family.arguments, lora_r_attn=2, lora_r_mlp=1)
    groups = native.morph_groups(network, level)
    got = {
        name: [1e-4 * group["factor"], group["weight_decay"]]
        for names, group in zip(grouped(network, groups), groups, strict=True)
        for name in names
    }
    assert got == {name: pytest.approx(value) for name, value in published("morph")["levels"][f"level{level}"].items()}


@pytest.mark.parametrize("freeze", ["middle", "processor"])
def test_mpp_freezing(freeze):
    network = FAMILIES["mpp"].load(FAMILIES["mpp"].folder)
    vectors = grouped(network, native.mpp_groups(network, freeze))
    assert {name for names in vectors for name in names} == set(published("mpp")["trainable"][f"freeze_{freeze}"])
    assert all(network.get_parameter(name).ndim > 1 for name in vectors[0])


def fitted(name, tmp_path, steps=6, **arguments):
    protocol = registry().load("protocols", "fine-tune-native")(**arguments)
    data = SmoothExamples(problem(), 8)
    model = made(name)
    model.release(problem(), data, 0)
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    model = protocol.wrap(model)
    (settings,) = protocol.search_space(model, [1e-3])
    (tmp_path / "work").mkdir()
    report = protocol.adapt(
        model, data, data, Budget(None, steps, 4), TrialSettings(settings, 0), FitContext(tmp_path / "work")
    )
    assert report.status == "ok"
    after = model.network.state_dict()
    assert after.keys() == before.keys()
    return model, {key for key in after if not torch.equal(after[key], before[key])}, report


@pytest.mark.parametrize("name", MODELS)
def test_a_native_fit_is_kept_and_recorded(name, tmp_path):
    model, changed, report = fitted(name, tmp_path, steps=12)
    assert changed
    assert report.history[-1]["train_loss"] < report.history[0]["train_loss"]
    assert "suite's" in model.notes()["recipe"]
    assert all(parameter.requires_grad for parameter in model.network.parameters())
    (tmp_path / "kept").mkdir()
    model.save(tmp_path / "kept")
    again = made(name)
    again.load(tmp_path / "kept")
    inputs, _ = SmoothExamples(problem(), 2).batch(range(2))
    assert torch.equal(again.predict(problem(), inputs)["solution"], model.predict(problem(), inputs)["solution"])


def test_what_is_frozen_stays(tmp_path):
    _, changed, _ = fitted("mpp", tmp_path, freeze="middle")
    assert changed == {f"network.{name}" for name in published("mpp")["trainable"]["freeze_middle"]}


def test_low_rank_updates_are_added_to_the_weights(tmp_path):
    _, changed, _ = fitted("morph", tmp_path)
    assert any(".attn_h.q.base.weight" in name for name in changed)
    assert not any(name.endswith((".base.bias", "projection.weight")) for name in changed)


def test_a_morph_that_was_tuned_by_low_rank_updates_keeps_them(tmp_path):
    family = FAMILIES["morph"]
    tuned = scattered(family.load(family.file, **family.arguments, lora_r_attn=2, lora_r_mlp=1))
    torch.save({"model_state_dict": tuned.state_dict()}, tmp_path / "tuned.pth")
    model, again, plain = (made("morph", checkpoint=str(tmp_path / "tuned.pth")) for _ in range(3))
    model.release(problem(), SmoothExamples(problem(), 2), 0)
    with native.morph(1).recipe(model.network, 0):
        pass  # nothing is trained
    vol = torch.randn(1, 1, 1, 1, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(model.network.network(vol)[2], tuned(vol)[2])
    model.save(tmp_path)
    again.load(tmp_path)
    plain.initialise(problem(), SmoothExamples(problem(), 2), 0)
    shapes = [{key: value.shape for key, value in each.network.state_dict().items()} for each in (model, again, plain)]
    assert shapes[0] == shapes[1] == shapes[2]


def test_schedules():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, 101, pct_start=0.2)
    for step in range(101):
        # torch counts to its last step, the loop never reaches 1
        warm = step / 19.2 * 0.2 if step <= 19.2 else 0.2 + 0.8 * (step - 19.2) / (100 - 19.2)
        assert native.one_cycle(warm, []) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        cycle.step() if step < 100 else None
    losses = [3.0, 2.0, *[2.5] * 20, 1.0]
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer := torch.optim.SGD([torch.zeros(1)], 1.0), patience=5, factor=0.5
    )
    for count, loss in enumerate(losses):
        reference.step(loss)
        assert native.plateau(0.5, losses[: count + 1]) == optimizer.param_groups[0]["lr"]
    assert native.cosine(0, []) == 1
    assert math.isclose(native.cosine(0.5, []), 0.5)


def test_other_models_have_no_recipe():
    protocol = registry().load("protocols", "fine-tune-native")()
    assert "released" in protocol.refuses(registry().load("models", "unet")())
