"""What tasks go from and to, with and without a model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import h5py
import pytest

from pdebench_fm.data.hdf5 import export
from pdebench_fm.data.open import Pair
from pdebench_fm.errors import UnknownNameError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.plan.planner import make_plan
from pdebench_fm.plan.sets import comparable_pairs
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.registry.discovery import registry
from pdebench_fm.run.runner import run_plan
from pdebench_fm.suite.reading import load_suite
from pdebench_fm.testing import SmoothExamples
from tests.support.installed import with_toy
from tests.support.toy import SUITE, plan_of


def sets_of(pairs: Mapping[str, Pair]) -> dict[str, object]:
    return {task: (pair.source, pair.target) for task, pair in pairs.items()}


@pytest.mark.parametrize("suite", ["ood_sys2", "mixed"])
def test_pairs_without_a_model_are_those_of_a_plan(suite: str) -> None:
    loaded = load_suite(suite)
    planned = make_plan(loaded, "smoke", model_spec(registry(), "mean"), registry()).pairs
    assert planned
    assert sets_of(comparable_pairs(loaded, "smoke", registry())) == sets_of(planned)


def test_what_comes_from_files_is_left_out_and_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "files.yaml"
    there = "{system: helmholtz, files: {pretraining: no.h5, train: no.h5, validation: no.h5, test: no.h5}}"
    path.write_text(SUITE.replace("{system: helmholtz, wavenumber: [5, 6]}", there), encoding="utf-8")
    mixed = path.read_text(encoding="utf-8").replace(
        "pretraining: poisson, downstream: B", "pretraining: mixed, downstream: B"
    )
    path.write_text(mixed, encoding="utf-8")
    found = comparable_pairs(load_suite(path), "tiny", registry())
    planned = plan_of(tmp_path, registry(), "mean").pairs["B from poisson"]
    assert sets_of(found) == sets_of({"B from poisson": planned})


def test_parts_of_a_mixture_may_have_other_outputs(tmp_path: Path) -> None:
    u, p = Channel("u"), Channel("p")
    for name, outputs in (("both", (u, p)), ("one", (u,)), ("other", (p,))):
        examples = SmoothExamples(Problem((Channel("source"),), outputs, Grid(16)), 16)
        export(tmp_path / f"{name}.h5", examples.problem, iter([examples.batch(range(16))]), 16, {})
    for name in ("both", "one", "other"):
        shutil.copy(tmp_path / f"{name}.h5", tmp_path / f"{name}-test.h5")
        with h5py.File(tmp_path / f"{name}-test.h5", "r+") as file:
            file["fields"][:] *= 2
    text = SUITE.replace("{system: poisson, eigenvalue: [1, 5]}", _files("one", "one-test"))
    text = text.replace("{system: poisson, eigenvalue: [5, 10]}", _files("one", "one-test"))
    text = text.replace("{system: helmholtz, wavenumber: [5, 6]}", _files("other", "other-test"))
    text = text.replace("poisson: [A]", "poisson: [A, C]")
    path = tmp_path / "files.yaml"
    path.write_text(text, encoding="utf-8")
    found = with_toy()
    plan = make_plan(load_suite(path, found), "tiny", model_spec(found, "toy"), found, output=tmp_path / "runs")
    assert not any(row.unsupported for row in plan.rows)
    result = run_plan(plan)
    assert {record.status for record in result.records} == {"ok"}


def test_physics_that_a_suite_names_later_reaches_the_records_and_the_figures(tmp_path: Path) -> None:
    problem = Problem((Channel("source"), Channel("speed", "constant")), (Channel("u"),), Grid(16))
    for name, seed in (("train", 0), ("test", 1)):
        fields = SmoothExamples(problem, 16, seed=seed).batch(range(16))
        export(tmp_path / f"{name}.h5", problem, iter([fields]), 16, {})
    path, found, overlaps = tmp_path / "files.yaml", registry(), []
    for physics in ("", ", physics: speed"):
        text, files = (
            SUITE.split("  - {name: C from mixed")[0] + SUITE[SUITE.index("protocols:") :],
            _files("train", "test"),
        )
        for sampled in ("eigenvalue: [1, 5]", "eigenvalue: [5, 10]"):
            text = text.replace(f"{{system: poisson, {sampled}}}", f"{files[:-1]}{physics}}}")
        path.write_text(text, encoding="utf-8")
        suite = load_suite(path, found)
        plan = make_plan(suite, "tiny", model_spec(found, "mean"), found, output=tmp_path / "runs")
        records = run_plan(plan).records
        overlaps.append({record.overlap is not None for record in records if record.kind == "point"})
        assert list(comparable_pairs(suite, "tiny", found)) == (["B from poisson"] if physics else [])
    assert overlaps == [{False}, {True}]


def _files(train: str, test: str) -> str:
    return f"{{files: {{pretraining: {train}.h5, train: {train}.h5, validation: {train}.h5, test: {test}.h5}}}}"


def test_a_profile_that_the_suite_lacks_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown profile 'large'"):
        comparable_pairs(load_suite("smoke"), "large", registry())
