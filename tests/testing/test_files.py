"""The checks of distributions, on one whose examples are read from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.api import load_examples
from pdebench_fm.data.hdf5 import export
from pdebench_fm.errors import DataFileError
from pdebench_fm.interfaces import SPLITS
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import ConformanceError, SmoothExamples, checks_of_distribution
from tests.testing.conftest import TINY
from tests.testing.outcomes import outcomes

FILES = (
    """\
name: files
version: 1
description: Two files, three splits.
default_profile: tiny
distributions:
  D: {files: {train: first.h5, validation: second.h5, test: TEST}}
  P: {files: {pretraining: second.h5, validation: second.h5, test: first.h5}}
pretraining: {P: [P]}
tasks: [{name: T, pretraining: P, downstream: D, shift: none}]
"""
    + TINY
)


def suite_of_files(folder: Path, test: str) -> Path:
    problem = Problem((Channel("source"),), (Channel("solution"),), Grid(16))
    for seed, name in enumerate(("first", "second", "third")):
        examples = SmoothExamples(problem, 9, seed)
        export(folder / f"{name}.h5", problem, iter([examples.batch(range(9))]), 9, {})
    path = folder / "files.yaml"
    path.write_text(FILES.replace("TEST", test), encoding="utf-8")
    return path


def test_files_keep_every_claim_on_distributions(tmp_path: Path) -> None:
    checks = checks_of_distribution(f"{suite_of_files(tmp_path, 'third.h5')}:D")
    assert outcomes(checks) == {
        "data_seed_changes_examples": "skipped: its examples are read from files, not drawn",
        "examples_do_not_depend_on_the_grid": "skipped: its examples are read from files, not drawn",
        "solutions_are_those_of_the_pde": "skipped: its examples come without a PDE",
        "solution_solves_the_pde": "skipped: its examples come without a PDE",
    }


def test_a_file_of_few_examples_is_skipped_visibly(tmp_path: Path) -> None:
    path = suite_of_files(tmp_path, "third.h5")
    examples = SmoothExamples(Problem((Channel("source"),), (Channel("solution"),), Grid(16)), 4, 7)
    export(tmp_path / "third.h5", examples.problem, iter([examples.batch(range(4))]), 4, {})
    found = outcomes(checks_of_distribution(f"{path}:D"))
    assert found["solutions_differ"] == "skipped: looks at 8 examples, the file of split 'test' has 4"
    assert all(text.startswith("skipped: ") for text in found.values())


@pytest.mark.parametrize(("factor", "said"), [(1.0, None), (1.005, None), (1.1, "it differs by 10.0% of its size")])
def test_solutions_of_another_equation_are_found(tmp_path: Path, factor: float, said: str | None) -> None:
    for split in SPLITS:
        examples = load_examples("smoke:SYS-1(1,5)", split=split, count=8, grid=16)
        inputs, outputs = examples.batch(range(8))
        wrong = {name: value * factor for name, value in outputs.items()}
        export(tmp_path / f"{split}.h5", examples.problem, iter([(inputs, wrong)]), 8, {})
    files = ", ".join(f"{split}: {split}.h5" for split in SPLITS)
    lines = [line for line in FILES.splitlines() if not line.startswith("  P: ")]
    text = (
        "\n".join(lines).replace("{P: [P]}", "{P: [D]}").replace("files: {train: first.h5", "files: {train: train.h5")
    )
    path = tmp_path / "files.yaml"
    old = "{files: {train: train.h5, validation: second.h5, test: TEST}}"
    path.write_text(text.replace(old, f"{{system: poisson, files: {{{files}}}}}"), encoding="utf-8")
    found = outcomes(checks_of_distribution(f"{path}:D")).get("solutions_are_those_of_the_pde")
    assert (found is None) if said is None else said in str(found)


def test_training_on_the_test_file_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="an example occurs in two splits"):
        dict(checks_of_distribution(f"{suite_of_files(tmp_path, 'first.h5')}:D"))["splits_differ"]()


def test_files_of_two_problems_are_refused(tmp_path: Path) -> None:
    path = suite_of_files(tmp_path, "third.h5")
    problem = Problem((Channel("source"),), (Channel("solution"),), Grid(16, periodic=False))
    export(tmp_path / "third.h5", problem, iter([SmoothExamples(problem, 9, 2).batch(range(9))]), 9, {})
    with pytest.raises(DataFileError, match=r"'D' must state one problem, that of .*grid: got 16 × 16, .* not p"):
        checks_of_distribution(f"{path}:D")
