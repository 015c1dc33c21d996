from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pdebench_fm.errors import DataFileError
from pdebench_fm.problem import Channel, Grid, Problem
from pdebench_fm.testing import SmoothExamples
from tests.support.toy import Toy

PROBLEM = Problem((Channel("source"), Channel("k11", "constant")), (Channel("solution"),), Grid(8), homogeneous=True)
DATA = SmoothExamples(PROBLEM, 4)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = Toy(width=3)
    model.initialise(PROBLEM, DATA, 1)
    model.save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", [".", "model.safetensors"])
def test_a_folder_or_its_one_file_brings_the_model_back(saved: Path, file: str) -> None:
    loaded = Toy.load(saved / file)
    original = Toy(width=3)
    original.initialise(PROBLEM, DATA, 1)
    assert loaded.width == 3
    inputs, _ = DATA.batch(range(4))
    assert torch.equal(loaded.predict(PROBLEM, inputs)["solution"], original.predict(PROBLEM, inputs)["solution"])


def test_unreadable_weights_are_one_clear_error(saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataFileError, match=r"model.safetensors: cannot be read as Toy weights") as error:
        Toy.load(saved)
    assert "\n" not in str(error.value)


def test_initialising_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    Toy().initialise(PROBLEM, DATA, 5)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_model_without_weights_says_so() -> None:
    with pytest.raises(RuntimeError, match="call initialise or load first"):
        _ = Toy().parameters
