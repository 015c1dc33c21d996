"""Sizes are read from the files: networks of other sizes, saved in the published layout, load without a word."""

import json

import torch
from pdefm_released import poseidon
from safetensors.torch import save_file


def scattered(network, seed=0):
    """Give every parameter random values, so that none is at a start that hides it."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    return network.eval()


def same(network, loaded, *inputs, **named):
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs, **named)[1], network(*inputs, **named)[1])
    assert torch.isfinite(network(*inputs, **named)[1]).all()


def test_poseidon(tmp_path):
    sizes = poseidon.Sizes(
        image_size=24, patch_size=4, num_channels=5, num_out_channels=3, embed_dim=12, depths=(3, 1), num_heads=(3, 2),
        skip_connections=(0, 1), window_size=3, mlp_ratio=2.0, qkv_bias=False, p=2,
        channel_slice_list_normalized_loss=(0, 2, 3),
    )  # fmt: skip
    network = scattered(poseidon.ScOT(sizes))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    config = {"image_size": 24, "window_size": 3, "p": 2, "channel_slice_list_normalized_loss": [0, 2, 3]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = poseidon.load_network(tmp_path)
    assert loaded.sizes.channel_slice_list_normalized_loss == [0, 2, 3]
    same(network, loaded, torch.randn(2, 5, 24, 24), torch.rand(2))
    same(network, loaded, torch.randn(1, 5, 32, 32), torch.rand(1))


def test_shards_of_large_weights(tmp_path):
    from tests.plugins.released.families import FAMILIES

    tensors = FAMILIES["poseidon"].tensors()
    names = sorted(tensors)
    index = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for shard in set(index.values()):
        save_file({name: tensors[name] for name in names if index[name] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (tmp_path / "config.json").write_bytes((FAMILIES["poseidon"].folder / "config.json").read_bytes())
    loaded = poseidon.load_network(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], tensors[name]) for name in names)
