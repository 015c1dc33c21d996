"""What is wrong with a file of weights is said in one line that names it."""

import argparse
import json
import os
import pickle
import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from pdebench_fm.errors import DataFileError
from tests.plugins.released.families import FAMILIES

EACH = pytest.mark.parametrize("name", FAMILIES)


def refusal(family, path):
    with pytest.raises(DataFileError) as caught:
        family.load(path, **family.arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400 + 2 * len(str(path))
    return message


def bare(name):
    return name.removeprefix("module.").removeprefix("model.")


@EACH
def test_a_truncated_file(name, tmp_path):
    family = FAMILIES[name]
    path = family.rewritten(tmp_path, family.tensors())
    for kept in (0, 100, path.stat().st_size // 2, path.stat().st_size - 5):
        (tmp_path / "cut").mkdir(exist_ok=True)
        cut = tmp_path / "cut" / path.name
        cut.write_bytes(path.read_bytes()[:kept])
        for file in tmp_path.glob("*.json"):
            (tmp_path / "cut" / file.name).write_bytes(file.read_bytes())
        assert str(cut) in refusal(family, cut)


@EACH
def test_every_missing_tensor_is_named(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    unread = max(1, len(tensors) // 12)
    for missing in list(tensors)[::unread]:
        path = family.rewritten(tmp_path, {other: tensors[other] for other in tensors if other != missing})
        said = refusal(family, path)
        assert bare(missing) in said, said


@EACH
def test_a_surplus_tensor(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    prefix = next((prefix for prefix in ("module.", "model.") if next(iter(tensors)).startswith(prefix)), "")
    tensors[prefix + "extra_head.weight"] = torch.zeros(3)
    assert "extra_head.weight" in refusal(family, family.rewritten(tmp_path, tensors))


@EACH
def test_weights_that_are_not_finite(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    last = [each for each in tensors if tensors[each].is_floating_point()][-1]
    tensors[last] = torch.full_like(tensors[last], torch.nan)
    said = refusal(family, family.rewritten(tmp_path, tensors))
    assert bare(last) in said
    assert "not finite" in said


@EACH
def test_a_tensor_of_another_shape(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    last = list(tensors)[-1]
    tensors[last] = torch.zeros(*tensors[last].shape, 2)
    assert bare(last) in refusal(family, family.rewritten(tmp_path, tensors))


SIZED = {
    "poseidon": (
        "embeddings.patch_embeddings.projection.weight",
        "encoder.layers.0.blocks.0.attention.self.logit_scale",
    ),
    "dpot": ("patch_embed.proj.0.weight", "out_layer.4.weight", "cls_head.4.weight"),
    "mpp": ("space_bag.weight", "blocks.0.spatial.rel_pos_bias.relative_attention_bias.weight"),
    "morph": ("patch_embedding.projection.weight", "decoder.linear.weight"),
    "pdetransformer": ("x_embedder.proj.weight", "latent.blocks.0.attn.logit_scale", "latent.blocks.0.mlp.fc1.weight"),
    "pdetransformer_sc": ("task_embedder_0.embedding_table.weight", "latent.blocks.0.attn_spatial.logit_scale"),
}


@EACH
def test_a_wrong_tensor_that_sizes_are_read_from_is_named(name, tmp_path):
    family = FAMILIES[name]
    tensors = family.tensors()
    for sized in SIZED[name]:
        full = next(each for each in tensors if bare(each) == sized)
        along = 1 if name == "mpp" else 0
        longer = torch.cat([tensors[full], tensors[full].narrow(along, 0, 1)], dim=along)
        assert sized in refusal(family, family.rewritten(tmp_path, {**tensors, full: longer}))


@EACH
@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn, torch.complex64, "sparse"])
def test_weights_that_are_no_dense_floating_point_numbers(name, kind, tmp_path):
    family = FAMILIES[name]
    if not isinstance(kind, torch.dtype) and family.file.suffix == ".safetensors":
        pytest.skip("safetensors has no sparse tensors")
    tensors = family.tensors()
    last = [each for each in tensors if tensors[each].is_floating_point()][-1]
    tensors[last] = tensors[last].to(kind) if isinstance(kind, torch.dtype) else tensors[last].to_sparse()
    said = refusal(family, family.rewritten(tmp_path, tensors))
    assert bare(last) in said
    assert "dense" in said


@EACH
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_read_as_float32(name, kind, tmp_path):
    family = FAMILIES[name]
    tensors = {each: t.to(kind) if t.is_floating_point() else t for each, t in family.tensors().items()}
    network = family.load(family.rewritten(tmp_path, tensors), **family.arguments)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    tensors[next(iter(tensors))] = torch.full_like(next(iter(tensors.values())), 1e300 if kind == torch.float64 else 1)
    if kind == torch.float64:
        assert "not finite" in refusal(family, family.rewritten(tmp_path, tensors))


def test_a_table_of_another_window(tmp_path):
    family = FAMILIES["pdetransformer_sc"]
    tensors = family.tensors()
    table = next(each for each in tensors if each.endswith("relative_position_index"))
    tensors[table] = tensors[table].flip(0)
    said = refusal(family, family.rewritten(tmp_path, tensors))
    assert f"tensor {bare(table)!r} is not the table of positions" in said


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("poseidon", "window_size", 0, "'window_size' must be at least 1, got 0"),
        ("poseidon", "image_size", "32", "'image_size' must be int, got '32'"),
        ("poseidon", "image_size", 33, "image_size 33 is no multiple of the patch 2"),
        ("poseidon", "layer_norm_eps", "x", "'layer_norm_eps' must be float or int, got 'x'"),
        ("poseidon", "p", [], r"'p' must be int, got \[\]"),
        ("poseidon", "embed_dim", 48, "embed_dim is 48, but the tensors of model.safetensors have 8"),
        ("poseidon", "num_heads", [3, 6], r"num_heads is \[3, 6\], but the tensors"),
        ("pdetransformer", "patch_size", 2, "patch_size is 2, but the tensors of .* have 4"),
        ("pdetransformer_sc", "num_timesteps", 6, "num_timesteps is 6, but the tensors of .* have 2"),
    ],
)
def test_a_configuration_that_is_damaged_or_of_other_weights(name, key, value, said, tmp_path):
    family = FAMILIES[name]
    path = family.rewritten(tmp_path, family.tensors())
    config = tmp_path / "config.json"
    config.unlink()
    config.write_text(json.dumps(json.loads((family.file.parent / "config.json").read_text()) | {key: value}))
    assert re.search(said, refusal(family, path))
    config.unlink()
    assert "config.json: cannot be read: No such file" in refusal(family, path)


@pytest.mark.parametrize(
    "args", [{"T_bundle": "1"}, {"T_bundle": 0}, {"modes": -3}, {"T_bundle": 3}, argparse.Namespace(modes="all")]
)
def test_arguments_that_make_no_sense(args, tmp_path):
    family = FAMILIES["dpot"]
    torch.save({"args": args, "model": family.tensors()}, tmp_path / "model_S.pth")
    refusal(family, tmp_path)


@EACH
def test_another_family(name):
    for other in FAMILIES.values():
        if other.name != name:
            refusal(FAMILIES[name], other.file)


@EACH
def test_no_such_file(name, tmp_path):
    family = FAMILIES[name]
    assert "no such file" in refusal(family, tmp_path / "nothing")
    assert "no checkpoint" in refusal(family, tmp_path)


@EACH
def test_a_folder_is_searched(name, tmp_path):
    family = FAMILIES[name]
    (tmp_path / "one").mkdir()
    path = family.rewritten(tmp_path / "one", family.tensors())
    assert family.load(tmp_path / "one", **family.arguments)
    assert family.load(tmp_path, **family.arguments)  # in its only subfolder
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    said = refusal(family, tmp_path)
    assert f"one/{path.name}" in said
    assert f"two/{path.name}" in said
    shutil.copytree(tmp_path / "one", tmp_path, dirs_exist_ok=True)
    assert family.load(tmp_path, **family.arguments)  # its own comes before those of subfolders


def test_the_folder_of_a_repository_in_the_cache_of_the_hub(tmp_path):
    family, one, two = FAMILIES["poseidon"], tmp_path / "snapshots" / "one", tmp_path / "snapshots" / "two"
    one.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    for file in (family.file, family.folder / "config.json"):
        shutil.copy(file, tmp_path / "blobs" / file.name)
        (one / file.name).symlink_to(f"../../blobs/{file.name}")
    family.load(tmp_path)
    two.mkdir()
    assert refusal(family, tmp_path).endswith("has several snapshots (one, two); name one of them")


class Payload:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('executed').touch()",)


@EACH
@pytest.mark.parametrize("how", ["torch", "legacy", "pickle"])
def test_nothing_in_a_file_is_executed(name, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family = FAMILIES[name]
    for file in family.file.parent.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "weights.bin"
    content = {"model": {"w": torch.zeros(2)}, "args": Payload()}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "torch")
    assert "nothing in a checkpoint is executed" in refusal(family, path)
    assert not (tmp_path / "executed").exists()


class Command:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("args", [Command(), argparse.Namespace(command=Command())])
def test_what_a_file_would_execute_is_named(args, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": FAMILIES["dpot"].tensors(), "args": args}, "model_S.pth")
    said = refusal(FAMILIES["dpot"], tmp_path)
    assert f"it holds more than tensors ({os.system.__module__}.system)" in said
    assert not (tmp_path / "executed").exists()


def test_short_reasons_and_paths_of_the_home_folder(tmp_path, monkeypatch):
    family = FAMILIES["dpot"]
    whole = family.rewritten(tmp_path, family.tensors())
    monkeypatch.setenv("HOME", str(tmp_path))
    family.load(f"~/{whole.name}")
    whole.write_bytes(whole.read_bytes()[:3000])
    assert refusal(family, whole).endswith("truncated or damaged: PytorchStreamReader failed reading zip archive: "
                                           "failed finding central directory")  # fmt: skip
    whole.write_bytes(b"")
    assert refusal(family, whole).endswith("is empty")


@pytest.mark.parametrize("name", ["dpot", "pdetransformer"])
def test_names_keys_and_endings_of_other_training_codes(name, tmp_path):
    family = FAMILIES[name]
    tensors = {bare(each): tensor for each, tensor in family.tensors().items()}
    for config in family.file.parent.glob("config.json"):
        shutil.copy(config, tmp_path)
    wanted = family.load(family.file, **family.arguments).state_dict()
    contents = {
        "last.ckpt": {"state_dict": {f"model.model.{each}": t for each, t in tensors.items()}, "epoch": 3},
        "compiled.pt": {"net": {f"_orig_mod.{each}": t for each, t in tensors.items()}, "optimizer": {"state": {}}},
        "average.tar": {"ema": tensors, "step": 7},
        "weights.bin": {f"module.{each}": t for each, t in tensors.items()},
        "weights.safetensors": tensors,
        "saved_by_safetensors": tensors,
    }
    for ending, content in contents.items():
        path = tmp_path / ending
        if ending in ("weights.safetensors", "saved_by_safetensors"):
            save_file({each: t.contiguous() for each, t in content.items()}, path)
        else:
            torch.save(content, path)
        for asked in (path, tmp_path) if "." in ending else (path,):
            loaded = family.load(asked, **family.arguments).state_dict()
            assert all(torch.equal(loaded[each], wanted[each]) for each in wanted)
        path.unlink()
    torch.save({"ema": tensors, "net": tensors}, tmp_path / "two.pt")
    assert "has several sets of weights ('ema', 'net')" in refusal(family, tmp_path / "two.pt")
