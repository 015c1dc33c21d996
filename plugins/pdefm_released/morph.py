"""MORPH: a transformer for fields of one, two or three dimensions (arXiv 2509.21670)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm.errors import DataFileError
from pdebench_fm.problem import Problem
from pdefm_released.adapter import Adapter, Facts, filled, multiple
from pdefm_released.checkpoint import Checkpoint, locate, read_checkpoint
from pdefm_released.model import ReleasedModel, Resampling

FAMILY = "MORPH"
FILES = ("*.pth", "*.pt")
HEAD_WIDTH, HEADS_XA = 64, 32
STEM = 8


@dataclass(frozen=True)
class Sizes:
    """Sizes of a MORPH network, named as its constructor's arguments."""

    patch_size: int
    dim: int
    depth: int
    heads: int
    heads_xa: int
    mlp_dim: int
    max_components: int
    conv_filter: int
    max_ar: int
    max_patches: int
    max_fields: int
    model_size: str = "Ti"
    dropout: float = 0.1
    emb_dropout: float = 0.1
    rank_attention: int = 0
    rank_mlp: int = 0


def load_network(
    path: Path | str,
    *,
    heads: int | None = None,
    heads_xa: int | None = None,
    model_size: str | None = None,
    lora_r_attn: int = 0,
    lora_r_mlp: int = 0,
) -> MORPH:
    """Load a file ``morph-*.pth``, or the only one of a folder.

    Args:
        path: file or folder.
        heads: attention heads; by default one for each 64 of the width, as in the released ones.
        heads_xa: heads of the attention over fields; by default 32, as in the released ones.
        model_size: ``L`` interpolates positions over time and patches, as in L's pre-training; any other size takes the
            first frames and interpolates over patches. By default the size that the file's name has, or ``L`` if the
            positions have several frames.
        lora_r_attn: rank of low-rank updates to add to the attention, if the file has none.
        lora_r_mlp: the same for the MLPs.

    Raises:
        DataFileError: it is damaged, or not of this family.
    """
    checkpoint = read_checkpoint(locate(path, *FILES), FAMILY)
    sizes = _sizes(checkpoint, heads, heads_xa, model_size)
    network = checkpoint.fill(FAMILY, lambda: MORPH(sizes))
    network.add_lora(0 if sizes.rank_attention else lora_r_attn, 0 if sizes.rank_mlp else lora_r_mlp)
    return network


def _sizes(checkpoint: Checkpoint, heads: int | None, heads_xa: int | None, model_size: str | None) -> Sizes:
    dim, width = checkpoint.shape("patch_embedding.projection.weight", 2)
    last = max(checkpoint.count("patch_embedding.conv_features.conv_stack.") - 1, 0)
    filters = checkpoint.shape(f"patch_embedding.conv_features.conv_stack.{last}.weight", 5)[0]
    patch = max(round((width / filters) ** (1 / 3)), 1)
    components = checkpoint.shape("patch_embedding.conv_features.input_proj.weight", 5)[1]
    _, frames, patches, _ = checkpoint.shape("pos_encoding.pos_embedding", 4)
    rows = checkpoint.shape("decoder.linear.weight", 2)[0]
    chosen = {"heads": heads or dim // HEAD_WIDTH, "heads_xa": heads_xa or HEADS_XA}
    for name, count in chosen.items():
        if count < 1 or dim % count:
            raise DataFileError(
                f"{checkpoint.file}: {name} is in no file and must divide the width {dim} of "
                f"'patch_embedding.projection.weight', got {count}; give {name}"
            )
    ranks = {name: checkpoint.shape(name, 2)[0] for name in checkpoint.tensors if name.endswith(".A")}
    return Sizes(
        patch_size=patch,
        dim=dim,
        depth=checkpoint.count("transformer_blocks."),
        mlp_dim=checkpoint.shape("transformer_blocks.0.mlp.0.base.weight", 2)[0],
        max_components=components,
        conv_filter=filters,
        max_ar=frames,
        max_patches=patches,
        max_fields=rows // (components * patch**3),
        model_size=model_size or _named_size(checkpoint.file) or ("L" if frames > 1 else "Ti"),
        rank_attention=next((rank for name, rank in ranks.items() if ".axial_attn." in name), 0),
        rank_mlp=next((rank for name, rank in ranks.items() if ".mlp." in name), 0),
        **chosen,
    )


@cache
def _frames(file: Path, digest: str) -> int:
    """Return the frames that positions are stored for, of a file with this SHA-256; a large one takes a while."""
    return read_checkpoint(file, FAMILY).shape("pos_encoding.pos_embedding", 4)[1]


def _named_size(file: Path) -> str | None:
    named = re.search(r"morph-(Ti|S|M|L)\b", file.name)
    return named[1] if named else None


class MORPH(nn.Module):
    """The network; call it with a history of fields and their components."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.patch_embedding = _PatchEmbedding(sizes)
        self.pos_encoding = _Positions(sizes)
        self.transformer_blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))
        self.decoder = nn.Module()
        self.decoder.norm = nn.LayerNorm(sizes.dim)
        self.decoder.linear = nn.Linear(sizes.dim, sizes.max_fields * sizes.max_components * sizes.patch_size**3)

    def forward(self, vol: Tensor, decoded: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Predict the next frame.

        Args:
            vol: history, (B, t, F, C, D, H, W); an axis has one point or a multiple of the patch.
            decoded: how many of the fields to predict, the first ones; by default all. Not in the published code: any
                number of fields can be read, but no more than `Sizes.max_fields` be predicted.

        Returns:
            encoded patches and their last state, (B, t, patches, dim) each, and the frame, (B, F, C, D, H, W).
        """
        sizes, axes = self.sizes, vol.shape[-3:]
        if any(n != 1 and n % sizes.patch_size for n in axes):
            raise ValueError(f"each axis needs 1 point or a multiple of {sizes.patch_size}, got {tuple(axes)}")
        decoded = decoded or vol.shape[2]
        if decoded > sizes.max_fields or vol.shape[3] > sizes.max_components:
            most = f"{sizes.max_fields} fields and {sizes.max_components} components"
            raise ValueError(f"this MORPH takes at most {most}, got {decoded} and {vol.shape[3]}")
        patches = [1 if n == 1 else sizes.patch_size for n in axes]
        grid = [n // patch for n, patch in zip(axes, patches, strict=True)]
        encoded = self.pos_encoding(self.patch_embedding(vol, patches))
        h = encoded
        for block in self.transformer_blocks:
            h = block(h.unflatten(2, grid)).flatten(2, 4)
        return encoded, h, self._decode(h[:, -1], (decoded, vol.shape[3]), patches, grid)

    def add_lora(self, rank_attention: int, rank_mlp: int) -> None:
        """Add low-rank updates that are zero at first, to attention and MLPs; a rank of 0 adds none."""
        for name, module in self.named_modules():
            rank = rank_mlp if ".mlp." in name else rank_attention
            if isinstance(module, _Linear) and rank:
                module.add(rank)

    def merge_lora(self) -> None:
        """Add the low-rank updates to the weights, and remove them."""
        for module in self.modules():
            if isinstance(module, _Linear):
                module.merge()
        self.sizes = replace(self.sizes, rank_attention=0, rank_mlp=0)

    def _decode(self, h: Tensor, fields: tuple[int, ...], patches: list[int], grid: list[int]) -> Tensor:
        count = fields[0] * fields[1] * patches[0] * patches[1] * patches[2]
        values = self.decoder.linear(self.decoder.norm(h))[..., :count]
        values = values.reshape(len(h), *grid, *fields, *patches).permute(0, 4, 5, 1, 6, 2, 7, 3, 8)
        return values.reshape(len(h), *fields, *(n * patch for n, patch in zip(grid, patches, strict=True)))


class _PatchEmbedding(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.components = sizes.max_components
        self.conv_features = nn.Module()
        self.conv_features.input_proj = nn.Conv3d(sizes.max_components, STEM, 1, bias=False)
        widths = [STEM]
        while widths[-1] < sizes.conv_filter:
            widths.append(min(2 * widths[-1], sizes.conv_filter))
        pairs = [*itertools.pairwise(widths), (widths[-1], sizes.conv_filter)]
        layers = [(nn.Conv3d(a, b, 3, padding=1, bias=False), nn.LeakyReLU(0.2)) for a, b in pairs]
        self.conv_features.conv_stack = nn.Sequential(*itertools.chain(*layers))
        self.projection = nn.Linear(sizes.conv_filter * sizes.patch_size**3, sizes.dim)
        self.field_attn = nn.Module()
        self.field_attn.q = nn.Parameter(torch.randn(1, 1, sizes.dim))
        self.field_attn.attn = nn.MultiheadAttention(sizes.dim, sizes.heads_xa, batch_first=True)

    def forward(self, vol: Tensor, patches: list[int]) -> Tensor:
        """Embed (B, t, F, C, D, H, W) as (B, t, patches, dim)."""
        batch, frames, fields, components = vol.shape[:4]
        vol = functional.pad(vol, (0, 0, 0, 0, 0, 0, 0, self.components - components))
        h = self.conv_features.conv_stack(self.conv_features.input_proj(vol.flatten(0, 2)))
        for axis, patch in zip((2, 4, 6), patches, strict=True):
            h = h.unflatten(axis, (-1, patch))
        h = h.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)  # (B·t·F, patches, filters·volume)
        # The features fill the first columns of the projection; the others would meet zeros.
        h = functional.linear(h, self.projection.weight[:, : h.shape[-1]], self.projection.bias)
        tokens = h.unflatten(0, (batch * frames, fields)).transpose(1, 2).flatten(0, 1)
        query = self.field_attn.q.expand(len(tokens), 1, -1)
        joined, _ = self.field_attn.attn(query, tokens, tokens, need_weights=False)
        return joined.reshape(batch, frames, -1, joined.shape[-1])


class _Positions(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, sizes.max_ar, sizes.max_patches, sizes.dim))
        self.large = sizes.model_size == "L" and sizes.max_ar > 1
        self.dropout = nn.Dropout(sizes.emb_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Add a position to each token, (B, t, patches, dim)."""
        frames, patches = x.shape[1:3]
        table = self.pos_embedding
        if self.large:
            resized = functional.interpolate(
                table.movedim(-1, 1), (frames, patches), mode="bilinear", align_corners=False, antialias=True
            ).movedim(1, -1)
        else:
            if frames > table.shape[1]:
                raise ValueError(f"this MORPH takes at most {table.shape[1]} frames, got {frames}")
            columns = table[0, :frames].transpose(1, 2)
            resized = functional.interpolate(columns, patches, mode="linear", align_corners=False).transpose(1, 2)[None]
        return self.dropout(x + resized)


class _Linear(nn.Module):
    """A linear layer, with a low-rank update if the rank is not zero; alpha is twice the rank, as published."""

    def __init__(self, entering: int, leaving: int, rank: int, dropout: float = 0.05) -> None:
        super().__init__()
        self.base = nn.Linear(entering, leaving)
        self.rank, self.dropout = 0, nn.Dropout(dropout)
        self.add(rank)

    def add(self, rank: int) -> None:
        """Add an update of this rank, zero at first."""
        self.rank = rank
        if rank:
            weight = self.base.weight
            self.A = nn.Parameter(torch.randn(rank, weight.shape[1]).to(weight) / weight.shape[1] ** 0.5)
            self.B = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def merge(self) -> None:
        """Add the update to the weight."""
        if self.rank:
            self.base.weight.data += 2.0 * self.B.data @ self.A.data
            self.rank = 0
            del self.A, self.B

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        return y + 2.0 * (self.dropout(x) @ self.A.T @ self.B.T) if self.rank else y


class _Attention(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.q, self.k, self.v, self.o = (_Linear(sizes.dim, sizes.dim, sizes.rank_attention) for _ in range(4))

    def forward(self, x: Tensor, axis: int) -> Tensor:
        """Attend along one axis of (B, t, D, H, W, dim)."""
        x = x.movedim(axis, -2)
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3) for layer in (self.q, self.k, self.v))
        out = functional.scaled_dot_product_attention(q, k, v).transpose(-2, -3).flatten(-2)
        return self.o(out).movedim(-2, axis)


class _Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(sizes.dim), nn.LayerNorm(sizes.dim)
        self.axial_attn = nn.Module()
        for axis in "tdhw":
            self.axial_attn.add_module(f"attn_{axis}", _Attention(sizes))
        self.mlp = nn.Sequential(
            _Linear(sizes.dim, sizes.mlp_dim, sizes.rank_mlp),
            nn.GELU(),
            nn.Dropout(sizes.dropout),
            _Linear(sizes.mlp_dim, sizes.dim, sizes.rank_mlp),
            nn.Dropout(sizes.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, t, D, H, W, dim) to the same shape."""
        y = self.norm1(x)
        if x.shape[1] > 1:
            y = y + self.axial_attn.attn_t(y, 1)
        y = y + self.axial_attn.attn_d(y, 2) + self.axial_attn.attn_h(y, 3) + self.axial_attn.attn_w(y, 4)
        x = x + y
        return x + self.mlp(self.norm2(x))


class MORPHAdapter(Adapter):
    """One frame; fields first, then constants as components of further fields."""

    family = FAMILY
    facts = Facts(
        code="github.com/lanl/MORPH, MIT",
        weights="huggingface.co/mahindrautela/MORPH, licence not seen",
        data="PDEBench and The Well in one to three dimensions: flows, magnetohydrodynamics, diffusion-reaction, waves",
    )
    embedding = ("patch_embedding.conv_features.input_proj",)
    head = ("decoder.linear",)

    @classmethod
    def open(cls, checkpoint: Path, **arguments: Any) -> nn.Module:
        """Load the network; low-rank updates that it was tuned by become part of its weights."""
        network = load_network(checkpoint, **arguments)
        network.merge_lora()
        return network

    @classmethod
    def refuses(cls, network: nn.Module, problem: Problem) -> str | None:
        """Refuse more outputs than fields and components make room for."""
        sizes, outputs = network.sizes, len(problem.outputs)
        if outputs <= sizes.max_fields * sizes.max_components:
            return None
        return f"this MORPH predicts {sizes.max_fields} fields of {sizes.max_components} components, not {outputs}"

    def size(self, n: int) -> int:
        """The next multiple of the patch."""
        return multiple(n, self.network.sizes.patch_size)

    def fit_channels(self) -> None:
        """Nothing is replaced: channels take the slots there are."""
        self.said |= {
            "history": "one frame",
            "fields": "input fields fill components first; constants begin a new field; outputs are the first slots",
            "normalisation": "mean and deviation of each channel, fitted to the first examples, in place of each "
            "sample's own: that would erase constants",
            "boundaries": "not an input",
            "positions": "interpolated over frames and patches" if self.network.pos_encoding.large else "of one frame",
            "heads": f"{self.network.sizes.heads}, over fields {self.network.sizes.heads_xa}: not in the file",
        }

    def call(self, x: Tensor) -> Tensor:
        """Predict the next frame."""
        width = self.network.sizes.max_components
        parts = [x[:, : self.field_count], x[:, self.field_count :]]
        slots = torch.cat([filled(part, multiple(part.shape[1], width, 0), 0.0) for part in parts], dim=1)
        slots = filled(slots, multiple(max(slots.shape[1], len(self.outputs)), width), 0.0)
        decoded = -(-len(self.outputs) // width)
        _, _, prediction = self.network(slots.unflatten(1, (-1, width))[:, None, :, :, None], decoded)
        return prediction[:, :, :, 0].flatten(1, 2)


class MORPHModel(ReleasedModel):
    """MORPH.

    Args:
        checkpoint: a file ``morph-*.pth``, or a folder with one.
        resampling: how grids are brought to multiples of the patch.
        heads: attention heads; 0 for one each 64 of the width.
        heads_xa: heads of the attention over fields; 0 for 32.
        model_size: how positions are interpolated, see `load_network`; empty to read it from the file.
    """

    adapter = MORPHAdapter
    files: ClassVar[Sequence[str]] = FILES

    def __init__(
        self,
        checkpoint: str,
        resampling: Resampling = "family",
        heads: int = 0,
        heads_xa: int = 0,
        model_size: str = "",
    ) -> None:
        super().__init__()
        self.checkpoint, self.resampling = checkpoint, resampling
        self.heads, self.heads_xa, self.model_size = heads, heads_xa, model_size

    def fingerprint(self) -> str:
        """Return that of the weights, and the size in the name of the file if it changes how positions are read."""
        own, file = super().fingerprint(), self._file()
        size = None if self.model_size else _named_size(file)
        return own if size in (None, "L") or _frames(file, own) == 1 else f"{own}+{size}"
