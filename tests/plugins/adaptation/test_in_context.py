"""Prediction in context: neighbours correct what is like them, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pdefm_adaptation.in_context import InContext, resampled
from pdefm_baselines.reference import Zero

from pdebench_fm.interfaces import OperatorModel
from pdebench_fm.problem import Grid
from tests.plugins.adaptation.networks import fitted
from tests.plugins.baselines.synthetic import Synthetic


def remembering(train: Synthetic, folder: Path, neighbours: int = 1) -> OperatorModel:
    model = InContext().wrap(Zero())
    assert fitted(model, folder, train, neighbours=neighbours).status == "ok"
    return model


def twice(train: Synthetic) -> Synthetic:
    """Every example two times."""
    for fields in (train.inputs, train.outputs):
        for name, value in fields.items():
            fields[name] = value.repeat(2, *[1] * (value.ndim - 1))
    return train


def test_an_example_that_was_seen_is_corrected_whole(tmp_path: Path) -> None:
    train = twice(Synthetic(6, 16))
    model = remembering(train, tmp_path)
    prediction = model.predict(train.problem, train.inputs)["solution"]
    assert torch.allclose(prediction, train.outputs["solution"], atol=1e-5)
    assert model.notes()["correction"] == "1 times what was missed at the 1 nearest of 12 examples"
    finer = Synthetic(6, 32)
    there = model.predict(finer.problem.on(Grid(32)), finer.inputs)["solution"]
    assert torch.allclose(there, finer.outputs["solution"], atol=1e-4)


def test_neighbours_that_say_nothing_change_nothing(tmp_path: Path) -> None:
    train = Synthetic(16, 16)
    train.outputs["solution"] = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0))
    model = remembering(train, tmp_path, 4)
    assert model.predict(train.problem, train.inputs)["solution"].norm() < 0.2 * train.outputs["solution"].norm()
    assert remembering(Synthetic(1, 16), tmp_path).predict(train.problem, train.inputs)["solution"].norm() == 0


def test_it_saves_what_it_remembers(tmp_path: Path) -> None:
    train = twice(Synthetic(6, 16))
    model, again = remembering(train, tmp_path), InContext().wrap(Zero())
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    again.load(tmp_path / "saved")
    one, two = (each.predict(train.problem, train.inputs)["solution"] for each in (model, again))
    assert one.equal(two)
    assert model.notes() == again.notes()


@pytest.mark.parametrize(("n", "size"), [(16, 32), (32, 16), (17, 24)])
def test_resampling_is_exact_for_what_both_grids_resolve(n: int, size: int) -> None:
    coarse, fine = Synthetic(2, n).inputs["source"], Synthetic(2, size).inputs["source"]
    assert torch.allclose(resampled(coarse[:, None], size, True)[:, 0], fine, atol=1e-5)
    assert resampled(coarse[:, None], size, False).shape == (2, 1, size, size)
