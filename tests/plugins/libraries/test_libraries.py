"""Architectures of libraries: registered without their library, and as good as ours with it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from pdefm_fno.model import FNO
from pdefm_fno.reference import ReferenceNetwork, spectral_convolution
from pdefm_libraries import of_neuralop
from pdefm_libraries.of_deeponet import DeepONet
from pdefm_libraries.of_monai import UNet
from pdefm_libraries.of_neuralop import TFNO, UNO
from pdefm_libraries.of_transformers import ViT
from torch.nn.functional import gelu

from pdebench_fm.errors import SettingError
from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.problem import Grid
from tests.plugins.adaptation.networks import fitted
from tests.plugins.baselines.synthetic import Synthetic, error, fit, screened_poisson


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"needs {module}, an optional extra")


def test_they_say_what_they_cannot_take() -> None:
    open_ended = screened_poisson(16).on(Grid(16, periodic=False))
    for model, problem, reason in (
        (of_neuralop.FNO(), open_ended, "periodic"),
        (of_neuralop.FNO(modes=16), screened_poisson(16), "at least 32 points"),
        (UNO(modes=8), screened_poisson(16), "at least 32 points"),
        (ViT(), screened_poisson(18), "multiple"),
        (UNet(), screened_poisson(20), "multiple of 8"),
        (DeepONet(), open_ended, "periodic"),
        (DeepONet(), screened_poisson(8), "multiple of 16 points"),
    ):
        assert reason in (model.supports(problem) or "")
    for make in (lambda: ViT(heads=5), lambda: TFNO(rank=0.0), lambda: UNet(levels=0), lambda: DeepONet(sensors=4)):
        with pytest.raises(SettingError):
            make()


def trained(model: OperatorModel, folder: Path, seed: int, steps: int = 60) -> float:
    """Train on a few examples; return the error on others."""
    train = Synthetic(32, 16, seed=seed, low=0.05, high=0.2)
    model.initialise(train.problem, train, seed)
    folder.mkdir()
    assert fitted(model, folder, train, steps, learning_rate=1e-2).status == "ok"
    return error(model, Synthetic(32, 16, seed=99, low=0.05, high=0.2))


def test_a_deeponet_learns_and_predicts_on_other_grids(tmp_path: Path) -> None:
    model = DeepONet(width=32, terms=32, sensors=16)
    train = Synthetic(16, 16, seed=1, low=0.05, high=0.2)
    model.initialise(train.problem, train, 0)
    fit(model, train, tmp_path, epochs=150, learning_rate=3e-3)
    assert error(model, train) < 0.5
    finer = Synthetic(8, 32, seed=99, low=0.05, high=0.2)
    coarse = model.predict(screened_poisson(16), Synthetic(8, 16, seed=99, low=0.05, high=0.2).inputs)["solution"]
    fine = model.predict(finer.problem, finer.inputs)["solution"]
    assert fine.shape == (8, 32, 32)
    assert torch.allclose(fine[:, ::2, ::2], coarse, atol=1e-4)  # sensors are at the same places


@needs("neuralop")
def test_neuraloperators_fno_has_our_size_and_scores_like_ours(tmp_path: Path) -> None:
    sizes, errors = {}, {}
    for name, make in (("ours", FNO), ("theirs", of_neuralop.FNO)):
        models = [make(8, 4, 2) for _ in range(3)]
        errors[name] = [trained(model, tmp_path / f"{name}{seed}", seed) for seed, model in enumerate(models)]
        sizes[name] = models[0].parameters
    assert sizes["ours"] == sizes["theirs"]
    spread = max(max(each) / min(each) for each in errors.values())
    between = abs(float(np.log(np.median(errors["ours"]) / np.median(errors["theirs"]))))
    assert between < max(np.log(spread), np.log(1.25)), errors


@needs("neuralop")
def test_neuraloperators_fno_is_ours_with_its_activation_applied_twice() -> None:
    train = Synthetic(4, 16, seed=1, low=0.05, high=0.2)
    ours, theirs = FNO(8, 4, 2), of_neuralop.FNO(8, 4, 2)
    for model in (ours, theirs):
        model.initialise(train.problem, train, 0)
    state, weights = ours.network.state_dict(), dict(theirs.network.named_parameters())
    with torch.no_grad():
        for i in range(2):
            block, layer = "network.fno_blocks", f"layers.{i}"
            spectral = 30 * torch.view_as_complex(
                state[f"{layer}.spectral.weight"].contiguous()
            )  # large enough to count
            state[f"{layer}.spectral.weight"].mul_(30)
            weights[f"{block}.convs.{i}.weight.tensor"].copy_(spectral.roll(4, 2))  # theirs begin with k_y = -m
            weights[f"{block}.convs.{i}.bias"].copy_(state[f"{layer}.pointwise.bias"][:, None, None])
            weights[f"{block}.fno_skips.{i}.conv.weight"].copy_(state[f"{layer}.pointwise.weight"][..., None])
        for own, other in (("lift", "lifting.fcs.0"), ("expand", "projection.fcs.0"), ("project", "projection.fcs.1")):
            weights[f"network.{other}.weight"].copy_(state[f"{own}.weight"][..., None])
            weights[f"network.{other}.bias"].copy_(state[f"{own}.bias"])
    ours.network.load_state_dict(state)
    plain = ReferenceNetwork.of(ours.network)  # type: ignore[arg-type]
    fields, constants = torch.randn(2, 1, 16, 16), torch.randn(2, len(train.problem.constants))
    with torch.no_grad():
        expected = theirs.network(fields, constants)
        assert (plain(fields, constants) - expected).norm() > 1e-3 * expected.norm()
        h = plain.lift(torch.cat([fields, constants[:, :, None, None].expand(-1, -1, 16, 16)], dim=1))
        h = spectral_convolution(h, plain.spectral[0]) + plain.pointwise[0](h)
        h = gelu(gelu(h))
        h = spectral_convolution(h, plain.spectral[1]) + plain.pointwise[1](h)
        torch.testing.assert_close(plain.project(gelu(plain.expand(h))), expected, rtol=1e-4, atol=1e-5)


@needs("transformers")
def test_a_vit_predicts_on_the_grid_of_its_patches(tmp_path: Path) -> None:
    model = ViT(width=16, depth=1, heads=2)
    train = Synthetic(4, 16)
    model.initialise(train.problem, train, 0)
    network = model.network
    with torch.no_grad():  # a token that says its own number
        network.project.weight.zero_()
        network.project.bias.copy_(torch.arange(16.0))
    patch = model.predict(train.problem, train.inputs)["solution"][0, :4, :4]
    assert patch.flatten().tolist() == list(range(16))
