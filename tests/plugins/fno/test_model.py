import pdefm_fno
import pytest
import torch
from pdefm_fno.model import FNO

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Grid
from tests.plugins.baselines.synthetic import Synthetic, error, fit, screened_poisson


def trained(path, n=16, epochs=40):
    train = Synthetic(16, n, low=0.5, high=1.5)
    model = FNO(width=6, modes=4, layers=2)
    model.initialise(train.problem, train, seed=0)
    assert fit(model, train, path, epochs=epochs, learning_rate=1e-2).status == "ok"
    return model


def test_training_lowers_the_error(tmp_path):
    train = Synthetic(16, 16, low=0.5, high=1.5)
    model = FNO(width=6, modes=4, layers=2)
    model.initialise(train.problem, train, seed=0)
    before = error(model, train)
    fit(model, train, tmp_path, epochs=40, learning_rate=3e-2)
    assert error(model, train) < before / 4


def test_a_model_saved_at_one_resolution_predicts_at_another(tmp_path):
    model = trained(tmp_path)
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again = FNO.from_file(tmp_path / "saved")
    coarse, fine = (Synthetic(5, n, seed=1, low=0.5, high=1.5) for n in (16, 32))
    at_coarse = model.predict(coarse.problem, coarse.inputs)["solution"]
    assert torch.equal(again.predict(coarse.problem, coarse.inputs)["solution"], at_coarse)
    at_fine = again.predict(fine.problem, fine.inputs)["solution"]
    # Equal but for the wavenumbers that the GELU makes and the coarse grid folds back.
    assert (at_fine[:, ::2, ::2] - at_coarse).norm() < 0.02 * at_coarse.norm()


def test_a_seed_fixes_the_initial_weights():
    train = Synthetic(4, 16)
    models = [FNO(width=4, modes=2) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        model.initialise(train.problem, train, seed)
    first, same, other = (model.network.state_dict()["layers.0.spectral.weight"] for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["width", "modes", "layers"])
def test_arguments_below_one_are_refused(name):
    with pytest.raises(SettingError, match=f"{name}: must be at least 1, got 0"):
        FNO(**{name: 0})


def test_a_grid_is_refused_with_a_reason():
    assert FNO(modes=16).supports(screened_poisson(32)) is None
    assert FNO(modes=4).supports(screened_poisson(9)) is None
    assert FNO(modes=17).supports(screened_poisson(32)) == "17 modes need a grid of at least 34 points a side, got 32"
    assert "periodic" in (FNO().supports(screened_poisson(32).on(Grid(32, periodic=False))) or "")


def test_the_entries_are_one_family_and_can_be_made():
    entries = pdefm_fno.pdefm_models()
    assert [entry.name for entry in entries] == ["fno", "fno-64k", "fno-1m", "fno-16m", "fno-256m"]
    assert {entry.family for entry in entries} == {"fno"}
    assert all(isinstance(entry.load()(**entry.arguments), FNO) for entry in entries)
