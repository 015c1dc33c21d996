"""Window attention after SwinV2, as Poseidon and PDE-Transformer use it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -200.0  # the published codes add a mask of -100 twice


def mlp_width(ratio: float, width: int) -> int:
    """Return the hidden width of an MLP; a fractional ratio is rounded down, as published."""
    return int(ratio * width + 1e-6)


def position_network(heads: int, hidden: int = 512) -> nn.Sequential:
    """Return the network that turns offsets into a bias for each head."""
    return nn.Sequential(nn.Linear(2, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, heads, bias=False))


def position_bias(network: nn.Module, window: int, like: Tensor) -> Tensor:
    """Return 16·sigmoid of the network's value for each pair of tokens, (heads, w², w²): query, then key."""
    values = network(relative_coordinates(window).to(like)).flatten(0, 1)
    return 16 * torch.sigmoid(values[pair_index(window).to(like.device)].movedim(-1, 0))


def pair_index(window: int) -> Tensor:
    """Return which offset each pair of tokens of a window has, (w², w²): query, then key."""
    index = torch.arange(window)
    offset = index[:, None] - index[None, :] + window - 1
    rows, columns = offset[:, None, :, None], offset[None, :, None, :]
    return (rows * (2 * window - 1) + columns).reshape(window**2, window**2)


def relative_coordinates(window: int) -> Tensor:
    """Return the scaled offsets of two tokens of a window, (2w - 1, 2w - 1, 2), rows before columns."""
    offsets = torch.arange(-(window - 1), window, dtype=torch.float32)
    table = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), dim=-1)
    table = 8 * table / max(window - 1, 1)
    return torch.sign(table) * torch.log2(table.abs() + 1) / math.log2(8)


def cosine_attention(q: Tensor, k: Tensor, v: Tensor, logit_scale: Tensor, bias: Tensor | None) -> Tensor:
    """Attend with the cosine similarity of q and k, (…, heads, tokens, width); ``bias`` is added to the logits."""
    scale = logit_scale.clamp(max=math.log(100.0)).exp()
    logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1) * scale
    return torch.softmax(logits if bias is None else logits + bias, dim=-1) @ v


def to_windows(x: Tensor, window: int) -> Tensor:
    """Cut (batch, H, W, width) into (batch, windows, window², width); H and W are multiples of the window."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(2, 3).reshape(batch, -1, window**2, channels)


def from_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo `to_windows`."""
    batch, channels = len(x), x.shape[-1]
    x = x.reshape(batch, height // window, width // window, window, window, channels)
    return x.transpose(2, 3).reshape(batch, height, width, channels)


def shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """Return what keeps tokens that a roll brought together apart, (windows, window², window²): 0 or `MASKED`."""

    def region(size: int) -> Tensor:
        position = torch.arange(size)
        return (position >= size - window).long() + (position >= size - shift).long()

    regions = 3 * region(height)[:, None] + region(width)
    of_windows = to_windows(regions[None, :, :, None], window)[0, :, :, 0]
    return torch.where(of_windows[:, :, None] == of_windows[:, None, :], 0.0, MASKED)
