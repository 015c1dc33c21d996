"""PDE-Transformer, mixed channels: a U-shaped shifted-window transformer (arXiv 2505.24717)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdefm_released.adapter import Adapter, Facts, filled, multiple
from pdefm_released.checkpoint import Checkpoint, locate, read_checkpoint
from pdefm_released.model import ReleasedModel, Resampling
from pdefm_released.windows import (
    cosine_attention,
    from_windows,
    mlp_width,
    position_bias,
    position_network,
    shift_mask,
    to_windows,
)

FAMILY = "PDE-Transformer (mixed channels)"
FACTS = Facts(
    code="github.com/tum-pbs/pde-transformer and PyPI pdetransformer, MIT",
    weights="huggingface.co/thuerey-group/pde-transformer, MIT",
    data="16 kinds of PDE of exponax in two dimensions, among them advection, reaction-diffusion and Kolmogorov flow",
)
FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.json", "*.safetensors")


class Prediction(NamedTuple):
    """What the network returns: the next frame, (B, C_out, H, W)."""

    sample: Tensor


@dataclass(frozen=True)
class Sizes:
    """Sizes of a PDE-Transformer; ``depth`` and ``heads`` go down the encoder, through the latent stage, and up."""

    in_channels: int
    out_channels: int
    patch_size: int
    window_size: int
    periodic: bool
    hidden_size: int
    num_heads: int
    depth: Sequence[int]
    mlp_ratio: float
    num_classes: int
    tables: bool = True
    """Whether positions are stored, as some versions with separate channels do."""

    @property
    def levels(self) -> int:
        """How often the tokens are halved."""
        return len(self.depth) // 2


def load_network(path: Path | str) -> PDETransformer:
    """Load a folder with config.json and weights, or a folder that has one such subfolder.

    Raises:
        DataFileError: it is damaged, or not of this family.
    """
    file = locate(path, *FILES)
    checkpoint = read_checkpoint(file, FAMILY, file.parent / "config.json")
    sizes = _sizes(checkpoint)
    return checkpoint.fill(FAMILY, lambda: PDETransformer(sizes), patch_size=sizes.patch_size)


def stage_names(levels: int) -> list[str]:
    """Return the names of the stages in the order of ``depth``."""
    down, up = range(levels), reversed(range(levels))
    return [*(f"encoder_level_{i}" for i in down), "latent", *(f"decoder_level_{i}" for i in up)]


def _sizes(checkpoint: Checkpoint) -> Sizes:
    checkpoint.demand(carrier_token_active=False)
    hidden, channels, _, patch = checkpoint.shape("x_embedder.proj.weight", 4)
    levels = levels_of(checkpoint)
    return Sizes(
        in_channels=channels,
        out_channels=checkpoint.shape("final_layer.out_proj.weight", 4)[0] // patch**2,
        patch_size=patch,
        window_size=checkpoint.whole("window_size"),
        periodic=checkpoint.setting("periodic", bool),
        hidden_size=hidden,
        num_heads=checkpoint.shape("latent.blocks.0.attn.logit_scale", 3)[0],
        depth=[checkpoint.count(f"{name}.blocks.") for name in stage_names(levels)],
        mlp_ratio=checkpoint.shape("latent.blocks.0.mlp.fc1.weight", 2)[0] / (hidden * 2**levels),
        num_classes=checkpoint.shape("y_embedder_0.embedding_table.weight", 2)[0] - 1,
    )


def levels_of(checkpoint: Checkpoint) -> int:
    """Return how often the tokens are halved.

    Raises:
        DataFileError: they are not.
    """
    levels = checkpoint.count("encoder_level_")
    checkpoint.shape(f"reduce_chan_level{max(levels - 1, 0)}.weight", 4)
    return levels


class PDETransformer(nn.Module):
    """The network; call it with the fields, and if known with a time and the class of the PDE."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        hidden, levels = sizes.hidden_size, sizes.levels
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(sizes.in_channels, hidden, sizes.patch_size, sizes.patch_size)
        for i in range(levels + 1):
            self.add_module(f"t_embedder_{i}", TimeEmbedding(hidden * 2**i))
            self.add_module(f"y_embedder_{i}", ClassEmbedding(sizes.num_classes + 1, hidden * 2**i))
        add_body(self, sizes, _Block)
        self.output = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1)
        self.final_layer = FinalLayer(2 * hidden, sizes.out_channels * sizes.patch_size**2)

    def forward(
        self, hidden_states: Tensor, timestep: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Prediction:
        """Predict the next frame.

        Args:
            hidden_states: fields, (B, C, H, W); H and W are multiples of patch·2^levels.
            timestep: diffusion time, (B,); 0 by default.
            class_labels: index of each PDE, (B,); unknown by default.
        """
        x, sizes = hidden_states, self.sizes
        check_multiple(x.shape[-2:], sizes.patch_size * 2**sizes.levels)
        time = x.new_zeros(1) if timestep is None else timestep
        labels = torch.full((len(time),), sizes.num_classes, device=x.device) if class_labels is None else class_labels
        conditions = [
            getattr(self, f"t_embedder_{i}")(1000 * time) + getattr(self, f"y_embedder_{i}")(labels)
            for i in range(sizes.levels + 1)
        ]
        conditions = [c.expand(len(x), -1) for c in conditions]
        tokens = u_shape(self, self.x_embedder.proj(x).movedim(1, -1), conditions)
        out = self.final_layer(self.output(tokens.movedim(-1, 1)), conditions[min(1, sizes.levels)])
        return Prediction(unpatchify(out, sizes.patch_size))


def add_body(network: nn.Module, sizes: Sizes, block: type[nn.Module]) -> None:
    """Add what both versions share: the stages, and what halves and doubles the tokens between them."""
    hidden, levels = sizes.hidden_size, sizes.levels
    widths = [hidden * 2**i for i in range(levels + 1)]
    up = [*reversed(widths[1:levels]), widths[1]]  # the last decoder level keeps twice the width
    for name, depth, width in zip(stage_names(levels), sizes.depth, [*widths, *up], strict=True):
        stage = nn.Module()
        stage.blocks = nn.ModuleList(block(sizes, width, shifted=j % 2 == 1) for j in range(depth))
        network.add_module(name, stage)
    for i in range(levels):
        leaving = 2 * hidden if i == 0 else widths[i]
        network.add_module(f"down{i}_{i + 1}", _resize(widths[i], widths[i] // 2, nn.PixelUnshuffle(2)))
        network.add_module(f"up{i + 1}_{i}", _resize(widths[i + 1], 2 * widths[i + 1], nn.PixelShuffle(2)))
        network.add_module(f"reduce_chan_level{i}", nn.Conv2d(2 * widths[i], leaving, 1))


def u_shape(network: nn.Module, x: Tensor, conditions: Sequence[Tensor]) -> Tensor:
    """Run the stages on tokens (…, H, W, width); ``conditions`` are the embeddings of each level, (…, width)."""

    def stage(name: str, x: Tensor, level: int) -> Tensor:
        for block in network.get_submodule(name).blocks:
            x = block(x, conditions[level])
        return x

    def convolved(name: str, x: Tensor) -> Tensor:
        flat = x.reshape(-1, *x.shape[-3:]).movedim(-1, 1)
        y = network.get_submodule(name)(flat).movedim(1, -1)
        return y.reshape(*x.shape[:-3], *y.shape[1:])

    levels = network.sizes.levels
    skips = []
    for i in range(levels):
        skips.append(x := stage(f"encoder_level_{i}", x, i))
        x = convolved(f"down{i}_{i + 1}", x)
    x = stage("latent", x, levels)
    for i in reversed(range(levels)):
        x = torch.cat([convolved(f"up{i + 1}_{i}", x), skips[i]], dim=-1)
        x = stage(f"decoder_level_{i}", convolved(f"reduce_chan_level{i}", x), max(i, 1))
    return x


def unpatchify(x: Tensor, patch: int) -> Tensor:
    """Turn (B, p·p·C, h, w), patch row first and channel last, into (B, C, h·p, w·p)."""
    x = x.unflatten(1, (patch, patch, -1)).permute(0, 3, 4, 1, 5, 2)
    return x.flatten(4, 5).flatten(2, 3)


def check_multiple(shape: Sequence[int], factor: int) -> None:
    """Refuse fields that cannot be halved as often as the network does.

    Raises:
        ValueError: a side is not a multiple of ``factor``.
    """
    if any(n % factor for n in shape):
        raise ValueError(f"both sides must be multiples of {factor}, got {tuple(shape)}")


def _resize(entering: int, leaving: int, shuffle: nn.Module) -> nn.Module:
    module = nn.Module()
    module.body = nn.Sequential(nn.Conv2d(entering, leaving, 3, padding=1, bias=False), shuffle)
    module.forward = module.body.forward
    return module


class TimeEmbedding(nn.Module):
    """Embeds a time by sinusoids, cosines first, and an MLP."""

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        self.features = features
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, time: Tensor) -> Tensor:
        """Map (B,) to (B, width)."""
        half = self.features // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, device=time.device) / half)
        angles = time[:, None].to(frequencies) * frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(self.mlp[0].weight))


class ClassEmbedding(nn.Module):
    """Embeds an index."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes, width)

    def forward(self, index: Tensor) -> Tensor:
        """Map (B,) to (B, width)."""
        return self.embedding_table(index)


class Modulation(nn.Module):
    """Shifts, scales and gates from an embedding."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.linear, self.parts = nn.Linear(width, parts * width), parts

    def forward(self, condition: Tensor, dimensions: int) -> tuple[Tensor, ...]:
        """Return each part for tokens of so many dimensions, (…, 1, 1, width)."""
        parts = self.linear(functional.silu(condition)).chunk(self.parts, dim=-1)
        middle = [1] * (dimensions - condition.ndim)
        return tuple(part.reshape(*condition.shape[:-1], *middle, part.shape[-1]) for part in parts)


class MLP(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, width) to the same shape."""
        return self.fc2(functional.gelu(self.fc1(x)))


class WindowAttention(nn.Module):
    """Cosine attention within windows, without an output projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), 10.0).log())
        self.pos_emb_funct = nn.Module()
        self.pos_emb_funct.cpb_mlp = position_network(heads)

    def forward(self, x: Tensor, window: int, mask: Tensor | None) -> Tensor:
        """Attend within windows, (B, windows, window², width); the mask is for each window."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        bias = position_bias(self.pos_emb_funct.cpb_mlp, window, x)
        if mask is not None:
            bias = bias + mask[..., None, :, :]
        return cosine_attention(q, k, v, self.logit_scale, bias).transpose(-2, -3).flatten(-2)


class _Block(nn.Module):
    def __init__(self, sizes: Sizes, width: int, *, shifted: bool) -> None:
        super().__init__()
        self.window, self.periodic = sizes.window_size, sizes.periodic
        self.shift = sizes.window_size // 2 if shifted else 0
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, sizes.num_heads)
        self.mlp = MLP(width, mlp_width(sizes.mlp_ratio, width))
        self.adain_2 = Modulation(width, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map tokens (B, H, W, width), given an embedding (B, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adain_2(condition, x.ndim)
        tokens, mask = self._rolled(x)
        rows, columns = tokens.shape[1:3]
        h = to_windows(self.norm1(tokens) * (1 + scale1) + shift1, self.window)
        attended = from_windows(self.attn(h, self.window, mask), self.window, rows, columns)
        attended = torch.roll(attended[:, : x.shape[1], : x.shape[2]], (self.shift, self.shift), (1, 2))
        x = x + attended * (1 + gate1)
        return x + self.mlp(self.norm2(x) * (1 + scale2) + shift2) * (1 + gate2)

    def _rolled(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Roll and pad the tokens; return a mask too if needed. The padding takes part in all else, as published."""
        window, shift, (height, width) = self.window, self.shift, x.shape[1:3]
        x = torch.roll(x, (-shift, -shift), (1, 2))
        x = functional.pad(x, (0, 0, 0, -width % window, 0, -height % window))
        if self.periodic or not shift or min(height, width) < window:
            return x, None
        if x.shape[1:3] != (height, width):
            raise ValueError(f"a grid of {height} × {width} tokens is no multiple of the window {window}")
        return x, shift_mask(height, width, window, shift).to(x)


class FinalLayer(nn.Module):
    """Norm, modulation and the convolution to the points of each patch."""

    def __init__(self, width: int, leaving: int) -> None:
        super().__init__()
        self.out_proj = nn.Conv2d(width, leaving, 3, padding=1)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, width, H, W) to (B, leaving, H, W)."""
        shift, scale = self.adaLN_modulation(condition)[..., None, None].chunk(2, dim=1)
        normed = functional.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=1e-6).movedim(-1, 1)
        return self.out_proj(normed * (1 + scale) + shift)


class PDETransformerAdapter(Adapter):
    """One frame; the class of the PDE is unknown."""

    family = FAMILY
    facts = FACTS
    embedding = ("x_embedder.proj",)
    head = ("final_layer.out_proj",)

    @classmethod
    def open(cls, checkpoint: Path, **arguments: Any) -> nn.Module:
        """Load the network."""
        return load_network(checkpoint, **arguments)

    def size(self, n: int) -> int:
        """Return the next size that can be halved often enough, and cut into windows if masks ask for it."""
        return multiple(n, grid_unit(self.network.sizes))

    def fit_channels(self) -> None:
        """Replace the first or last layer only if there are more channels than it has; fewer are filled with 0."""
        sizes, network, patch = self.network.sizes, self.network, self.network.sizes.patch_size
        inputs, outputs = max(len(self.inputs), sizes.in_channels), max(len(self.outputs), sizes.out_channels)
        if inputs != sizes.in_channels:
            network.x_embedder.proj = nn.Conv2d(inputs, sizes.hidden_size, patch, patch)
            self.replaced.append("x_embedder.proj")
        if outputs != sizes.out_channels:
            network.final_layer.out_proj = nn.Conv2d(2 * sizes.hidden_size, outputs * patch**2, 3, padding=1)
            self.replaced.append("final_layer.out_proj")
        network.sizes = replace(sizes, in_channels=inputs, out_channels=outputs)
        self.said |= {
            "history": "one frame",
            "unused channels": f"{inputs - len(self.inputs)}, filled with 0",
            "class of the PDE": "unknown",
            "boundaries": f"as in the file, {'periodic' if sizes.periodic else 'not periodic'}",
        }

    def call(self, x: Tensor) -> Tensor:
        """Predict the next frame."""
        return self.network(filled(x, self.network.sizes.in_channels, 0.0)).sample


def grid_unit(sizes: Sizes) -> int:
    """Return what the side of a grid must be a multiple of."""
    return sizes.patch_size * 2**sizes.levels * (1 if sizes.periodic else sizes.window_size)


class PDETransformerModel(ReleasedModel):
    """PDE-Transformer with mixed channels.

    Args:
        checkpoint: a folder with config.json and weights.
        resampling: how grids are brought to sizes that the network can halve.
    """

    adapter = PDETransformerAdapter
    files: ClassVar[Sequence[str]] = FILES
    reads_config = True

    def __init__(self, checkpoint: str, resampling: Resampling = "family") -> None:
        super().__init__()
        self.checkpoint, self.resampling = checkpoint, resampling
