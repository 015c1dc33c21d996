"""MPP: an axial vision transformer for any set of known fields (AViT, arXiv 2310.02994)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdefm_released.adapter import Adapter, Facts, filled, multiple
from pdefm_released.checkpoint import Checkpoint, locate, read_checkpoint
from pdefm_released.model import ReleasedModel, Resampling

FAMILY = "MPP"
FILES = ("MPP_*", "best_ckpt.tar", "*.tar", "*.pt", "*.pth")
BUCKETS, FAR = 32, 32


@dataclass(frozen=True)
class Sizes:
    """Sizes of an AViT."""

    embed_dim: int
    num_heads: int
    processor_blocks: int
    n_states: int
    kernels: tuple[int, int, int] = (4, 2, 2)
    mlp_hidden: int | None = None
    drop_path: float = 0.2


def load_network(path: Path | str) -> AViT:
    """Load a bare state dict ``MPP_AViT_*`` or a checkpoint of the trainer; or the only one of a folder.

    Raises:
        DataFileError: it is damaged, or not of this family.
    """
    checkpoint = read_checkpoint(locate(path, *FILES), FAMILY)
    sizes = _sizes(checkpoint)
    return checkpoint.fill(FAMILY, lambda: AViT(sizes))


def _sizes(checkpoint: Checkpoint) -> Sizes:
    kernels = [checkpoint.shape(f"embed.in_proj.{i}.weight", 4)[-1] for i in (0, 3, 6)]
    bias = "blocks.0.spatial.rel_pos_bias.relative_attention_bias.weight"
    return Sizes(
        embed_dim=checkpoint.shape("embed.in_proj.6.weight", 4)[0],
        num_heads=checkpoint.shape(bias, 2)[1],
        processor_blocks=checkpoint.count("blocks."),
        n_states=checkpoint.shape("space_bag.weight", 2)[1],
        kernels=(kernels[0], kernels[1], kernels[2]),
        mlp_hidden=checkpoint.shape("blocks.0.spatial.mlp.fc1.weight", 2)[0],
    )


class AViT(nn.Module):
    """The network; call it with a history, the indices of its fields, and the boundaries."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.embed_dim
        self.space_bag = nn.Linear(sizes.n_states, width // 4)
        self.embed = nn.Module()
        self.embed.in_proj = _stem(width // 4, width, sizes.kernels)
        last = max(sizes.processor_blocks - 1, 1)
        self.blocks = nn.ModuleList(_Block(sizes, sizes.drop_path * i / last) for i in range(sizes.processor_blocks))
        self.debed = _Debed(sizes)

    @property
    def patch(self) -> int:
        """Points a side of a token."""
        return math.prod(self.sizes.kernels)

    def forward(self, x: Tensor, state_labels: Tensor, bcs: Tensor, unscaled: int = 0) -> Tensor:
        """Predict the next frame.

        Args:
            x: history, (T, B, C, H, W), time first; H and W are multiples of `patch` with more than one token.
            state_labels: index of each field in the vocabulary, (B, C); the first row counts for all.
            bcs: 1 if an axis is periodic, (B, 2), the last axis first; the first row counts for all.
            unscaled: how many of the last channels keep their mean and deviation; not in the published code, for planes
                of constants, which its scaling would erase.

        Returns:
            (B, C, H, W).
        """
        labels, periodic = state_labels[0], [bool(flag) for flag in bcs[0].flip(0)]
        std, mean = torch.std_mean(x, dim=(0, -2, -1), keepdim=True)
        std = std + 1e-7
        if unscaled:
            std[:, :, -unscaled:], mean[:, :, -unscaled:] = 1.0, 0.0
        frames, batch = x.shape[:2]
        scale = math.sqrt(self.sizes.n_states / len(labels))
        fields = ((x - mean) / std).movedim(2, -1)
        fields = scale * functional.linear(fields, self.space_bag.weight[:, labels], self.space_bag.bias)
        h = self.embed.in_proj(fields.movedim(-1, 2).flatten(0, 1))
        for block in self.blocks:
            h = block(h, frames, batch, periodic)
        return self.debed(h.unflatten(0, (frames, batch))[-1], labels) * std[0] + mean[0]

    def expand_projections(self, fields: int) -> None:
        """Add new fields to the end of the vocabulary, with fresh weights; build the optimizer afterwards."""
        with torch.no_grad():
            bag = nn.Linear(self.sizes.n_states + fields, self.space_bag.out_features).to(self.space_bag.weight)
            bag.weight[:, : self.sizes.n_states] = self.space_bag.weight
            bag.bias.copy_(self.space_bag.bias)
        self.space_bag = bag
        self.debed.expand(fields)
        self.sizes = Sizes(**{**vars(self.sizes), "n_states": self.sizes.n_states + fields})


class RMSNorm(nn.Module):
    """Divides each channel by its unbiased deviation over space; the mean stays, and the bias is not used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, width, H, W)."""
        std = x.std(dim=(-2, -1), keepdim=True)
        return x / (std + 1e-8) * self.weight[:, None, None]


def _stem(hidden: int, width: int, kernels: tuple[int, int, int]) -> nn.Sequential:
    a, b, c = kernels
    return nn.Sequential(
        nn.Conv2d(hidden, hidden, a, a, bias=False), RMSNorm(hidden), nn.GELU(),
        nn.Conv2d(hidden, hidden, b, b, bias=False), RMSNorm(hidden), nn.GELU(),
        nn.Conv2d(hidden, width, c, c, bias=False), RMSNorm(width),
    )  # fmt: skip


class _Debed(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width, hidden = sizes.embed_dim, sizes.embed_dim // 4
        last, middle, first = sizes.kernels
        self.out_proj = nn.Sequential(
            nn.ConvTranspose2d(width, hidden, first, first, bias=False), RMSNorm(hidden), nn.GELU(),
            nn.ConvTranspose2d(hidden, hidden, middle, middle, bias=False), RMSNorm(hidden), nn.GELU(),
        )  # fmt: skip
        kernels = nn.ConvTranspose2d(hidden, sizes.n_states, last, last)
        self.out_kernel, self.out_bias = nn.Parameter(kernels.weight.data), nn.Parameter(kernels.bias.data)

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        kernel = self.out_kernel[:, labels]
        return functional.conv_transpose2d(self.out_proj(h), kernel, self.out_bias[labels], stride=kernel.shape[-1])

    def expand(self, fields: int) -> None:
        hidden, _, size, _ = self.out_kernel.shape
        fresh = nn.ConvTranspose2d(hidden, fields, size, size).to(self.out_kernel)
        self.out_kernel = nn.Parameter(torch.cat([self.out_kernel.data, fresh.weight.data], dim=1))
        self.out_bias = nn.Parameter(torch.cat([self.out_bias.data, fresh.bias.data]))


class _Block(nn.Module):
    def __init__(self, sizes: Sizes, drop: float) -> None:
        super().__init__()
        self.temporal, self.spatial = _Temporal(sizes, drop), _Spatial(sizes, drop)

    def forward(self, x: Tensor, frames: int, batch: int, periodic: list[bool]) -> Tensor:
        return self.spatial(self.temporal(x, frames, batch), periodic)


class _Heads(nn.Module):
    """What attention over time and over space have in common: projections, norms of q and k, and the bias."""

    def __init__(self, sizes: Sizes, drop: float) -> None:
        super().__init__()
        width, self.heads, self.drop = sizes.embed_dim, sizes.num_heads, drop
        self.input_head, self.output_head = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.qnorm, self.knorm = nn.LayerNorm(width // self.heads), nn.LayerNorm(width // self.heads)
        self.rel_pos_bias = nn.Module()
        self.rel_pos_bias.relative_attention_bias = nn.Embedding(BUCKETS, self.heads)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project (B, width, H, W) to q, k, v, each (B, heads, H, W, width/heads); every head has its own q, k, v."""
        q, k, v = self.input_head(x).unflatten(1, (self.heads, -1)).movedim(2, -1).chunk(3, dim=-1)
        return self.qnorm(q), self.knorm(k), v

    def bias(self, length: int, periodic: bool = False) -> Tensor:
        """Return the bias of each pair of positions, (heads, length, length): query, then key."""
        index = buckets(length, periodic).to(self.qnorm.weight.device)
        return self.rel_pos_bias.relative_attention_bias(index).movedim(-1, 0)

    def dropped(self, x: Tensor) -> Tensor:
        """Drop the branch of whole examples while training (stochastic depth)."""
        if not self.training or self.drop == 0:
            return x
        keep = 1 - self.drop
        return x * (torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) < keep) / keep


def buckets(length: int, periodic: bool) -> Tensor:
    """Return the bucket of each distance, (length, length); periodic distances wrap as the published code does."""
    index = torch.arange(length)
    offset = index[None, :] - index[:, None]  # key minus query
    if periodic:
        half = length // 2
        offset = torch.where(offset < -half, offset % half, torch.where(offset > half, offset % -half, offset))
    behind, distance = (offset > 0).long(), offset.abs()
    exact, half_buckets = BUCKETS // 4, BUCKETS // 2
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(FAR / exact)
    far = (exact + (ratio * (half_buckets - exact)).long()).clamp(max=half_buckets - 1)
    return half_buckets * behind + torch.where(distance < exact, distance, far)


class _Temporal(_Heads):
    def __init__(self, sizes: Sizes, drop: float) -> None:
        super().__init__(sizes, drop)
        width = sizes.embed_dim
        self.norm1, self.norm2 = nn.InstanceNorm2d(width, affine=True), nn.InstanceNorm2d(width, affine=True)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor, frames: int, batch: int) -> Tensor:
        """Attend over time at every token, (T·B, width, H, W)."""
        q, k, v = (part.unflatten(0, (frames, batch)).movedim(0, -2) for part in self.split(self.norm1(x)))
        out = functional.scaled_dot_product_attention(q, k, v, self.bias(frames)[None, :, None, None])
        out = out.movedim(-2, 0).flatten(0, 1).movedim(-1, 2).flatten(1, 2)
        return x + self.dropped(self.output_head(self.norm2(out)) * self.gamma[:, None, None])


class _Spatial(_Heads):
    def __init__(self, sizes: Sizes, drop: float) -> None:
        super().__init__(sizes, drop)
        width = sizes.embed_dim
        hidden = sizes.mlp_hidden or 4 * width
        self.norm1, self.norm2, self.mlp_norm = RMSNorm(width), RMSNorm(width), RMSNorm(width)
        self.gamma_att, self.gamma_mlp = (nn.Parameter(torch.full((width,), 1e-6)) for _ in range(2))
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, periodic: list[bool]) -> Tensor:
        """Attend along rows and along columns, then an MLP, (T·B, width, H, W)."""
        parts = self.split(self.norm1(x))
        along_w = self._along(parts, periodic[1])
        along_h = self._along([part.transpose(2, 3) for part in parts], periodic[0]).transpose(2, 3)
        out = ((along_w + along_h) / 2).movedim(-1, 2).flatten(1, 2)
        x = x + self.dropped(self.output_head(self.norm2(out)) * self.gamma_att[:, None, None])
        h = self.mlp.fc2(functional.gelu(self.mlp.fc1(x.movedim(1, -1)))).movedim(-1, 1)
        return x + self.dropped(self.mlp_norm(h) * self.gamma_mlp[:, None, None])

    def _along(self, parts: list[Tensor] | tuple[Tensor, ...], periodic: bool) -> Tensor:
        q, k, v = parts
        bias = self.bias(q.shape[-2], periodic)[None, :, None]
        return functional.scaled_dot_product_attention(q, k, v, bias)


class MPPAdapter(Adapter):
    """One frame; every channel is a new field of the vocabulary."""

    family = FAMILY
    facts = Facts(
        code="github.com/PolymathicAI/multiple_physics_pretraining, MIT",
        weights="linked there, no licence of their own",
        data="PDEBench: shallow water, diffusion-reaction, compressible and incompressible Navier-Stokes; 16 frames",
    )
    embedding = ("space_bag",)
    head = ("debed.out_kernel", "debed.out_bias")

    @classmethod
    def open(cls, checkpoint: Path, **arguments: Any) -> nn.Module:
        """Load the network."""
        return load_network(checkpoint, **arguments)

    def size(self, n: int) -> int:
        """At least two tokens a side."""
        return multiple(n, self.network.patch, 2)

    def fit_channels(self) -> None:
        """Add a field for each channel, as the authors do for new fields."""
        known, slots = self.network.sizes.n_states, max(len(self.inputs), len(self.outputs))
        self.network.expand_projections(slots)
        self.labels = list(range(known, known + slots))
        self.replaced += ["new columns of space_bag.weight, debed.out_kernel and debed.out_bias"]
        self.said |= {
            "history": "one frame",
            "fields": f"new ones, {known} to {known + slots - 1}; outputs are read from the first of them",
            "scaling inside": "each field by its own mean and deviation, as published; constants are left out of it",
            "boundaries": "periodic" if self.periodic else "not periodic",
        }

    def call(self, x: Tensor) -> Tensor:
        """Predict the next frame."""
        labels = torch.tensor([self.labels], device=x.device)
        bcs = torch.full((1, 2), int(self.periodic), device=x.device)
        x = filled(x, len(self.labels), 0.0)
        return self.network(x[None], labels, bcs, unscaled=len(self.labels) - self.field_count)


class MPP(ReleasedModel):
    """MPP's AViT.

    Args:
        checkpoint: a file such as ``MPP_AViT_Ti``, or a folder with one.
        resampling: how grids are brought to multiples of the patch.
    """

    adapter = MPPAdapter
    files: ClassVar[Sequence[str]] = FILES

    def __init__(self, checkpoint: str, resampling: Resampling = "family") -> None:
        super().__init__()
        self.checkpoint, self.resampling = checkpoint, resampling
