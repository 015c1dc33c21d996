"""Checkpoints still smaller than the fixtures, for tests that train."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from pdefm_released import pde_transformer, pde_transformer_sc, poseidon
from safetensors.torch import save_file
from torch import nn


def scattered(network: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """Give every parameter random values, so that none is at a start that hides it."""
    torch.manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = scale * torch.randn_like(parameter)
    return network.eval()


def save_diffusers(network: nn.Module, folder: Path, **config: object) -> None:
    folder.mkdir()
    about = {"_class_name": "PDETransformer", "carrier_token_active": False, "type": "PDE-S", "periodic": False}
    (folder / "config.json").write_text(json.dumps(about | config))
    tensors = {f"model.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")


def tiny_poseidon() -> str:
    """Write a Poseidon of two stages; return its folder."""
    sizes = poseidon.Sizes(16, 4, 4, 4, 8, (1, 1), (2, 2), (0, 0), 4, 2.0)
    folder = Path(tempfile.mkdtemp())
    save_file(_fresh(lambda: poseidon.ScOT(sizes)).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"image_size": 16, "window_size": 4}))
    return str(folder)


def tiny_separate() -> str:
    """Write a PDE-Transformer with separate channels and one halving; return its folder."""
    sizes = pde_transformer.Sizes(2, 2, 4, 4, True, 8, 2, (1, 1, 1), 1.0, 20)
    folder = Path(tempfile.mkdtemp())
    network = _fresh(lambda: pde_transformer_sc.PDETransformerSC(sizes))
    save_diffusers(network, folder / "sc-s", periodic=True, patch_size=4, num_timesteps=2)
    return str(folder)


def _fresh(build):  # type: ignore[no-untyped-def]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()
