"""The plain protocol that benchmarks compare with does what the training loop does: the comparison is fair."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pdefm_fno.model import FNO
from pdefm_fno.reference import ReferenceNetwork

from pdebench_fm.data.combine import Subset
from pdebench_fm.data.hdf5 import export
from pdebench_fm.interfaces import Budget, FitContext, TrialSettings
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from pdebench_fm.training import InputNormalisation

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8), homogeneous=True)
POOL, VALIDATION = SmoothExamples(PROBLEM, 16), SmoothExamples(PROBLEM, 6, seed=1)
IDS = [3, 0, 15, 7, 8, 1, 12, 5, 9, 2]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("plain_protocol")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    sets = {"pool": POOL, "validation": VALIDATION}
    for name, examples in sets.items():
        count = len(examples)
        export(tmp_path / f"{name}.h5", PROBLEM, iter([examples.batch(range(count))]), count, {})
    return {name: tmp_path / f"{name}.h5" for name in sets}


def untrained() -> FNO:
    model = FNO(width=4, modes=2, layers=2)
    model.initialise(PROBLEM, Subset(POOL, IDS), seed=0)
    return model


@pytest.mark.parametrize(("rate", "steps"), [(1e-2, 12), (0.3, 14)])  # the larger rate does not improve every epoch
def test_it_trains_as_the_loop_does(
    plain: ModuleType, files: dict[str, Path], tmp_path: Path, rate: float, steps: int
) -> None:
    model = untrained()
    network = ReferenceNetwork.of(model.network)  # type: ignore[arg-type]
    decode = plain.decoder(PROBLEM, InputNormalisation.fit(PROBLEM, Subset(POOL, IDS)))
    train = plain.loader(plain.FileExamples(files["pool"], IDS), 4, workers=0, order=plain.EpochOrder(len(IDS), seed=3))
    validation = plain.loader(plain.FileExamples(files["validation"]), 4, workers=0)

    report = plain.fit(network, decode, train, validation, steps=steps, rate=rate)
    trial, budget = TrialSettings({"learning_rate": rate}, seed=3), Budget(None, steps, 4)
    ours = model.fit(Subset(POOL, IDS), VALIDATION, budget, trial, FitContext(tmp_path))

    epochs = -(-steps // 3)  # of three steps each, the last of which may be shorter
    assert len(report.train_losses) == len(report.validation_losses) == ours.epochs == epochs
    assert report.best_epoch == ours.best_epoch
    np.testing.assert_allclose(report.train_losses, [entry["train_loss"] for entry in ours.history], rtol=1e-4)
    np.testing.assert_allclose(
        report.validation_losses, [entry["validation_loss"] for entry in ours.history], rtol=1e-4
    )
    expected = ReferenceNetwork.of(model.network).state_dict()  # type: ignore[arg-type]
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-5)


def test_its_score_is_the_relative_l2_error(plain: ModuleType, files: dict[str, Path]) -> None:
    model = untrained()
    decode = plain.decoder(PROBLEM, InputNormalisation.fit(PROBLEM, Subset(POOL, IDS)))
    _, score = plain.evaluate(
        model.network, decode, plain.loader(plain.FileExamples(files["validation"]), 4, workers=0)
    )
    inputs, outputs = VALIDATION.batch(range(6))
    error = (model.predict(PROBLEM, inputs)["solution"] - outputs["solution"]).norm(dim=(1, 2))
    assert score == pytest.approx(float((error / outputs["solution"].norm(dim=(1, 2))).mean()), rel=1e-5)


def test_a_worker_process_reads_the_examples_in_the_order_of_the_epoch(
    plain: ModuleType, files: dict[str, Path]
) -> None:
    order = plain.EpochOrder(len(IDS), seed=3)
    reader = plain.loader(plain.FileExamples(files["pool"], IDS), 4, workers=1, order=order)
    for epoch in (0, 1):
        order.epoch = epoch
        inputs, outputs = POOL.batch([IDS[i] for i in order])
        planes, constants = (torch.cat(parts) for parts in zip(*reader, strict=True))
        assert torch.equal(planes, torch.stack([inputs["source"], outputs["solution"]], dim=1))
        assert torch.equal(constants[:, 0], inputs["k11"])


def test_a_fit_that_diverges_says_so(plain: ModuleType, files: dict[str, Path]) -> None:
    network = ReferenceNetwork.of(untrained().network)  # type: ignore[arg-type]
    decode = plain.decoder(PROBLEM, InputNormalisation.fit(PROBLEM, POOL))
    train = plain.loader(plain.FileExamples(files["pool"]), 4, workers=0, order=plain.EpochOrder(len(POOL), seed=0))
    report = plain.fit(network, decode, train, train, steps=40, rate=1e30)
    assert report.best_epoch == 0
    assert report.validation == float("inf")


SCRIPTS = ["data", "gpu", "learning_curve", "precision", "scale", "startup", "step"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_benchmark_says_what_it_takes(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(BENCHMARKS / f"{script}.py")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [path, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(path, run_name="__main__")
    answer = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"python benchmarks/{script}.py" in answer
    assert "--json" in answer
