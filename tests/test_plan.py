"""What tasks go from and to, with and without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from pdebench_fm.errors import UnknownNameError
from pdebench_fm.plan import make_plan, model_spec, sampled_pairs
from pdebench_fm.plugins import registry
from pdebench_fm.suite import load_suite
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


def test_a_profile_that_the_suite_lacks_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown profile 'large'"):
        sampled_pairs(load_suite("smoke"), "large", registry())
