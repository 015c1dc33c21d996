"""The checks of distributions, on one whose examples are read from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.data.hdf5 import export
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
        "solution_solves_the_pde": "skipped: its examples come without a PDE",
    }


def test_training_on_the_test_file_is_found(tmp_path: Path) -> None:
    with pytest.raises(ConformanceError, match="an example occurs in two splits"):
        dict(checks_of_distribution(f"{suite_of_files(tmp_path, 'first.h5')}:D"))["splits_differ"]()
