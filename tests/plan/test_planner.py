"""What tasks go from and to, with and without a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest

from pdebench_fm.data.hdf5 import export
from pdebench_fm.errors import UnknownNameError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import sampled_pairs
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry.discovery import registry
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.testing import SmoothExamples
from tests.support.installed import with_toy
from tests.support.toy import SUITE, plan_of


@pytest.mark.parametrize("suite", ["ood_sys2", "mixed"])
def test_pairs_without_a_model_are_those_of_a_plan(suite: str) -> None:
    loaded = load_suite(suite)
    planned = make_plan(loaded, "smoke", model_spec(registry(), "mean"), registry()).pairs
    assert planned
    assert sampled_pairs(loaded, "smoke", registry()) == planned


def test_what_comes_from_files_is_left_out_and_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "files.yaml"
    there = "{system: helmholtz, files: {pretraining: no.h5, train: no.h5, validation: no.h5, test: no.h5}}"
    path.write_text(SUITE.replace("{system: helmholtz, wavenumber: [5, 6]}", there), encoding="utf-8")
    mixed = path.read_text(encoding="utf-8").replace(
        "pretraining: poisson, downstream: B", "pretraining: mixed, downstream: B"
    )
    path.write_text(mixed, encoding="utf-8")
    found = sampled_pairs(load_suite(path), "tiny", registry())
    assert found == {"B from poisson": plan_of(tmp_path, registry(), "mean").pairs["B from poisson"]}


@pytest.mark.parametrize(("protocols", "fits"), [("[zero-shot]", False), ("[zero-shot, fine-tune]", True)])
def test_a_task_without_an_output_of_its_pretraining_can_be_asked_and_not_fitted(
    tmp_path: Path, protocols: str, fits: bool
) -> None:
    u, p = Channel("u"), Channel("p")
    for name, outputs in (("both", (u, p)), ("one", (u,))):
        examples = SmoothExamples(Problem((Channel("source"),), outputs, Grid(16)), 16)
        export(tmp_path / f"{name}.h5", examples.problem, iter([examples.batch(range(16))]), 16, {})
    shutil.copy(tmp_path / "one.h5", tmp_path / "test.h5")
    with h5py.File(tmp_path / "test.h5", "r+") as file:
        file["fields"][:] *= 2
    text = SUITE.replace("{system: poisson, eigenvalue: [1, 5]}", _files("both", "both"))
    text = text.replace("{system: poisson, eigenvalue: [5, 10]}", _files("one", "test"))
    text = text.replace("mixed: [A, C]", "mixed: [C]").replace("[zero-shot, fine-tune, scratch]", protocols)
    path = tmp_path / "files.yaml"
    path.write_text(text, encoding="utf-8")
    found = with_toy()
    suite = load_suite(path, found)
    if not fits:
        assert make_plan(suite, "tiny", model_spec(found, "toy"), found).rows
        return
    rows = make_plan(suite, "tiny", model_spec(found, "toy"), found).rows
    refused = {row.unsupported for row in rows if row.task == "B from poisson" and row.protocol == "fine-tune"}
    assert refused == {
        "the task has no output p, which the pre-training 'poisson' has, and a model is fitted to all outputs that it "
        "was made for"
    }
    assert not any(row.unsupported for row in rows if row.protocol != "fine-tune")


def _files(train: str, test: str) -> str:
    return f"{{files: {{pretraining: {train}.h5, train: {train}.h5, validation: {train}.h5, test: {test}.h5}}}}"


def test_a_profile_that_the_suite_lacks_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown profile 'large'"):
        sampled_pairs(load_suite("smoke"), "large", registry())
