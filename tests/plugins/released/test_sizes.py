"""Sizes are read from the files: networks of other sizes, saved in the published layout, load without a word."""

import argparse
import dataclasses
import json

import pytest
import torch
from pdefm_released import dpot, morph, mpp, pde_transformer, pde_transformer_sc, poseidon, windows
from safetensors.torch import save_file

from pdebench_fm.errors import DataFileError
from tests.plugins.released.families import FAMILIES
from tests.plugins.released.tiny import save_diffusers, scattered


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


def test_dpot(tmp_path):
    sizes = dpot.Sizes(
        img_size=24, patch_size=4, in_channels=3, out_channels=2, in_timesteps=5, out_timesteps=2, embed_dim=16,
        depth=1, n_blocks=2, modes=2, mlp_hidden=64, stem_width=11, out_layer_dim=7, n_cls=3,
    )  # fmt: skip
    network = scattered(dpot.DPOT(sizes))
    args = argparse.Namespace(modes=2, T_bundle=2, res=24, width=16, normalize=False)
    torch.save({"args": args, "model": network.state_dict()}, tmp_path / "model_S.pth")
    loaded = dpot.load_network(tmp_path)
    assert loaded.sizes == sizes
    x = torch.randn(2, 24, 24, 5, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x)[0], network(x)[0])
        all_modes = dpot.load_network(tmp_path, modes=32)(x)[0]
    assert (all_modes - loaded(x)[0]).abs().max() > 1e-3


def test_mpp(tmp_path):
    sizes = mpp.Sizes(embed_dim=32, num_heads=4, processor_blocks=1, n_states=5, kernels=(2, 2, 2), mlp_hidden=48)
    network = scattered(mpp.AViT(sizes))
    torch.save(network.state_dict(), tmp_path / "MPP_AViT_S")
    loaded = mpp.load_network(tmp_path)
    assert loaded.sizes == sizes
    x, labels, bcs = torch.randn(2, 1, 2, 16, 24), torch.tensor([[3, 1]]), torch.tensor([[1, 0]])
    with torch.no_grad():
        torch.testing.assert_close(loaded(x, labels, bcs), network(x, labels, bcs))


def test_mpp_takes_new_fields(tmp_path):
    network = mpp.load_network(FAMILIES["mpp"].folder)
    old = network.space_bag.weight.clone()
    network.expand_projections(2)
    assert torch.equal(network.space_bag.weight[:, :12], old)
    output = network(torch.randn(1, 1, 2, 32, 32), torch.tensor([[12, 13]]), torch.zeros(1, 2, dtype=torch.long))
    output.sum().backward()
    assert network.space_bag.weight.grad[:, 12:].abs().min() > 0


def test_morph(tmp_path):
    sizes = morph.Sizes(
        patch_size=4, dim=24, depth=1, heads=3, heads_xa=2, mlp_dim=20, max_components=2, conv_filter=32, max_ar=4,
        max_patches=10, max_fields=4, model_size="L",
    )  # fmt: skip
    network = scattered(morph.MORPH(sizes))
    for name in ("morph-L-FM-max_ar4_ep1.pth", "morph-tuned-L.pth", "without_a_size.pth"):
        torch.save({"epoch": 1, "model_state_dict": network.state_dict()}, tmp_path / name)
        loaded = morph.load_network(tmp_path / name, heads=3, heads_xa=2)
        assert loaded.sizes == sizes
    vol = torch.randn(2, 3, 4, 2, 1, 8, 12)
    same(network, loaded, vol)
    sliced = morph.load_network(tmp_path / name, heads=3, heads_xa=2, model_size="Ti")
    assert (sliced(vol)[2] - loaded(vol)[2]).abs().max() > 1e-3
    with pytest.raises(
        DataFileError, match=r"heads is in no file and must divide the width 24 of .*, got 0; give heads"
    ):
        morph.load_network(tmp_path / name)


def test_morph_with_low_rank_updates(tmp_path):
    family = FAMILIES["morph"]
    network = family.load(family.file, **family.arguments, lora_r_attn=2, lora_r_mlp=1)
    plain = family.load(family.file, **family.arguments)
    vol = torch.randn(1, 1, 1, 1, 1, 8, 8)
    torch.testing.assert_close(network(vol)[2], plain(vol)[2])
    torch.save({"model_state_dict": scattered(network).state_dict()}, tmp_path / "tuned.pth")
    same(network, family.load(tmp_path / "tuned.pth", **family.arguments), vol)


def test_pde_transformer(tmp_path):
    sizes = pde_transformer.Sizes(
        in_channels=3, out_channels=2, patch_size=2, window_size=2, periodic=False, hidden_size=12, num_heads=3,
        depth=[1, 2, 1, 3, 2, 1, 2], mlp_ratio=2.0, num_classes=5,
    )  # fmt: skip
    network = scattered(pde_transformer.PDETransformer(sizes))
    save_diffusers(network, tmp_path / "mc-b", window_size=2, patch_size=2)
    loaded = pde_transformer.load_network(tmp_path)
    assert loaded.sizes == sizes
    x = torch.randn(2, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x).sample, network(x).sample)
        assert loaded(x).sample.shape == (2, 2, 32, 64)
    other = pde_transformer.PDETransformer(dataclasses.replace(sizes, window_size=4))
    with pytest.raises(ValueError, match="a grid of 6 × 6 tokens is no multiple of the window 4"):
        other(torch.randn(1, 3, 48, 48))
    with pytest.raises(ValueError, match="both sides must be multiples of 16"):
        loaded(torch.randn(1, 3, 24, 32))


@pytest.mark.parametrize("tables", [True, False])
def test_pde_transformer_with_separate_channels(tables, tmp_path):
    sizes = pde_transformer.Sizes(
        in_channels=3, out_channels=3, patch_size=2, window_size=4, periodic=False, hidden_size=12, num_heads=3,
        depth=[2, 1, 2], mlp_ratio=2.0, num_classes=5, tables=tables,
    )  # fmt: skip
    network = scattered(pde_transformer_sc.PDETransformerSC(sizes))
    save_diffusers(network, tmp_path / "sc-b", patch_size=2, num_timesteps=3)
    loaded = pde_transformer_sc.load_network(tmp_path, window_size=None if tables else 4)
    assert loaded.sizes == sizes
    whole = [torch.zeros(2, dtype=torch.long)] * 2
    numbers = [torch.zeros(2)] * 2
    parameters = [torch.zeros(2, 5)] * 2
    x = list(torch.randn(2, 2, 3, 16, 32))
    call = (x, numbers, whole, whole, parameters, parameters, numbers, whole, numbers)
    with torch.no_grad():
        torch.testing.assert_close(loaded(*call).sample, network(*call).sample)
        with pytest.raises(ValueError, match="no multiple of the window"):
            loaded([each[..., :12, :] for each in x], *call[1:])


@pytest.mark.parametrize("ratio", [1.3, 2.7, 3.99])
def test_widths_of_mlps_are_rounded_down_at_every_level(ratio, tmp_path):
    sizes = poseidon.Sizes(16, 2, 1, 1, 6, (1, 1, 1), (1, 1, 1), (0, 0, 0), 4, ratio)
    network = poseidon.ScOT(sizes)
    assert [stage.blocks[0].intermediate.dense.out_features for stage in network.encoder.layers] == [
        int(ratio * width) for width in (6, 12, 24)
    ]
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"image_size": 16, "window_size": 4, "mlp_ratio": ratio}))
    poseidon.load_network(tmp_path)
    sizes = pde_transformer.Sizes(1, 1, 2, 2, True, 6, 2, (1, 1, 1, 1, 1), ratio, 5)
    for name, module, build in (
        ("mc", pde_transformer, pde_transformer.PDETransformer),
        ("sc", pde_transformer_sc, pde_transformer_sc.PDETransformerSC),
    ):
        save_diffusers(build(sizes), tmp_path / name, window_size=2, patch_size=2, periodic=True)
        module.load_network(tmp_path / name)


def on_meta(build):
    with torch.device("meta"):
        return build()


def millions(network):
    return sum(p.numel() for p in network.parameters()) / 1e6


@pytest.mark.parametrize(("hidden", "heads", "mixed"), [(96, 4, 33), (192, 8, 130), (384, 16, 518)])
def test_pde_transformers_of_published_sizes_are_as_large_as_published(hidden, heads, mixed):
    sizes = pde_transformer.Sizes(2, 2, 4, 8, True, hidden, heads, (2, 5, 8, 5, 2), 4.0, 1000)
    assert millions(on_meta(lambda: pde_transformer.PDETransformer(sizes))) == pytest.approx(mixed, rel=0.02)
    if hidden == 96:
        assert millions(on_meta(lambda: pde_transformer_sc.PDETransformerSC(sizes))) == pytest.approx(46, rel=0.02)


@pytest.mark.parametrize(
    ("width", "depth", "blocks", "mlp", "megabytes"),
    [(512, 4, 4, 1, 90.5), (1024, 6, 8, 1, 370), (1024, 12, 8, 4, 1470)],
)
def test_dpot_of_published_sizes_is_as_large_as_published(width, depth, blocks, mlp, megabytes):
    sizes = dpot.Sizes(128, 8, 4, 4, 10, 1, width, depth, blocks, 32, mlp * width, 4 * 8 + 3, 32, 12)
    network = on_meta(lambda: dpot.DPOT(sizes))
    # float32 weights and two moments of Adam
    assert sum(p.numel() for p in network.parameters()) * 12 / 1e6 == pytest.approx(megabytes, rel=0.01)


def test_mpp_of_published_size_has_as_many_tensors_as_published():
    network = on_meta(lambda: mpp.AViT(mpp.Sizes(192, 3, 12, 12)))
    assert len(network.state_dict()) == 439
    assert sum(p.numel() for p in network.parameters()) * 4 / 1e6 == pytest.approx(28, abs=3)


def test_tables_of_positions_are_those_that_are_stored():
    loaded = FAMILIES["pdetransformer_sc"].tensors()
    block = "model.latent.blocks.0.attn_spatial.pos_emb_funct"
    assert torch.equal(loaded[f"{block}.relative_position_index"], windows.pair_index(8))
    assert torch.equal(loaded[f"{block}.relative_coords_table"], windows.relative_coordinates(8)[None])


def test_windows_get_the_masks_of_other_windows_if_channels_are_separate():
    sizes = pde_transformer.Sizes(2, 2, 2, 2, False, 4, 1, [2, 1, 2], 1.0, 3)
    block = pde_transformer_sc._Block(sizes, 4, shifted=True)
    mask = block._mask(torch.zeros(1, 3, 4, 4, 4))  # 4 windows, 3 channels
    own = windows.shift_mask(4, 4, 2, 1)
    assert mask.shape == (3, 4, 4, 4)
    assert torch.equal(mask[2, 1], own[(1 * 3 + 2) % 4])
