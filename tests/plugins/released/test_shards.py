"""Weights in several files with an index, as hubs keep those of 4 GB and more."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pdebench_fm.errors import DataFileError
from pdebench_fm.plan.model import model_spec
from pdebench_fm.registry import registry
from tests.plugins.released.families import FAMILIES

SAFE = ("poseidon", "pdetransformer", "pdetransformer_sc")
FIRST, SECOND = "model-00001-of-00002", "model-00002-of-00002"


def sharded(name: str, folder: Path, suffix: str = ".safetensors") -> Path:
    """Write the tensors of a fixture as two shards beside its configuration; return the index."""
    family = FAMILIES[name]
    tensors = family.tensors()
    places = {each: (FIRST, SECOND)[number % 2] + suffix for number, each in enumerate(sorted(tensors))}
    for shard in set(places.values()):
        part = {each: tensors[each] for each in tensors if places[each] == shard}
        (save_file if suffix == ".safetensors" else torch.save)(part, folder / shard)
    (folder / "config.json").write_bytes((family.file.parent / "config.json").read_bytes())
    stem = family.file.name.removesuffix(".safetensors") if suffix == ".safetensors" else "pytorch_model"
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("name", SAFE)
def test_shards_are_read_as_one_file(name, tmp_path):
    index = sharded(name, tmp_path)
    whole = FAMILIES[name].load(FAMILIES[name].file).state_dict()
    for path in (tmp_path, index):
        loaded = FAMILIES[name].load(path).state_dict()
        assert loaded.keys() == whole.keys()
        assert all(torch.equal(loaded[each], whole[each]) for each in whole)


def test_shards_of_torch_save_are_read_too(tmp_path):
    sharded("poseidon", tmp_path, ".bin")
    assert FAMILIES["poseidon"].load(tmp_path)


def refusal(path):
    with pytest.raises(DataFileError) as caught:
        FAMILIES["poseidon"].load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_or_damaged_shard_is_one_line_that_names_it(tmp_path):
    index = sharded("poseidon", tmp_path)
    shard = tmp_path / f"{SECOND}.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert f"{shard}: truncated or damaged" in refusal(tmp_path)
    shard.unlink()
    assert refusal(tmp_path) == f"{index}: names {shard.name!r}, which is not there"
    with pytest.raises(DataFileError, match=f"{shard.name!r}, which is not there"):
        model_spec(registry(), "poseidon", {"checkpoint": str(tmp_path)})


def test_shards_and_their_index_must_agree(tmp_path):
    index = sharded("poseidon", tmp_path)
    first, second = (tmp_path / f"{name}.safetensors" for name in (FIRST, SECOND))
    moved = sorted(load_file(second))[0]
    save_file(load_file(first) | {moved: load_file(second)[moved]}, first)
    assert refusal(tmp_path) == f"{first}: has tensor {moved!r}, unlike {index.name} says"
    save_file({name: tensor for name, tensor in load_file(first).items() if name != moved}, first)
    save_file({name: tensor for name, tensor in load_file(second).items() if name != moved}, second)
    assert refusal(tmp_path) == f"{second}: lacks tensor {moved!r}, unlike {index.name} says"


@pytest.mark.parametrize("places", [{"a": "../a"}, {"a": 3}, {}, [], {"a": "model.safetensors.index.json"}])
def test_an_index_may_name_only_files_beside_it(places, tmp_path):
    index = sharded("poseidon", tmp_path)
    index.write_text(json.dumps({"weight_map": places}))
    assert "'weight_map' must name files of the same folder" in refusal(tmp_path)


def test_the_index_of_shards_may_have_any_name(tmp_path):
    index = sharded("poseidon", tmp_path)
    index.rename(tmp_path / "weights.safetensors.index.json")
    FAMILIES["poseidon"].load(tmp_path)


def test_shards_without_their_index_are_no_choice_of_checkpoints(tmp_path):
    sharded("poseidon", tmp_path).unlink()
    assert "has shards of weights but not their index" in refusal(tmp_path)


def test_another_shard_is_another_model(tmp_path):
    sharded("poseidon", tmp_path)
    before = model_spec(registry(), "poseidon", {"checkpoint": str(tmp_path)}).fingerprint
    shard = tmp_path / f"{SECOND}.safetensors"
    save_file(
        {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in load_file(shard).items()}, shard
    )
    assert model_spec(registry(), "poseidon", {"checkpoint": str(tmp_path)}).fingerprint != before
