"""PDE-Transformer, separate channels: each has tokens of its own, and channels attend to each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdefm_released.adapter import Adapter, filled, multiple
from pdefm_released.checkpoint import Checkpoint, locate, read_checkpoint
from pdefm_released.model import ReleasedModel, Resampling
from pdefm_released.pde_transformer import (
    FACTS,
    FILES,
    MLP,
    ClassEmbedding,
    FinalLayer,
    Modulation,
    Sizes,
    TimeEmbedding,
    WindowAttention,
    add_body,
    check_multiple,
    grid_unit,
    levels_of,
    stage_names,
    u_shape,
    unpatchify,
)
from pdefm_released.windows import (
    cosine_attention,
    from_windows,
    mlp_width,
    pair_index,
    relative_coordinates,
    shift_mask,
    to_windows,
)

FAMILY = "PDE-Transformer (separate channels)"
WINDOW = 8
TABLE = "attn_spatial.pos_emb_funct.relative_coords_table"


class Predictions(NamedTuple):
    """What the network returns: the frames of each channel, (B, T, H, W) each."""

    sample: list[Tensor]


def load_network(path: Path | str, *, window_size: int | None = None) -> PDETransformerSC:
    """Load a folder with config.json and weights, or a folder that has one such subfolder.

    Args:
        path: folder or file.
        window_size: tokens a side of a window; by default that of the tables in the file, or 8, as in the released
            ones.

    Raises:
        DataFileError: it is damaged, or not of this family.
    """
    file = locate(path, *FILES)
    checkpoint = read_checkpoint(file, FAMILY, file.parent / "config.json")
    sizes = _sizes(checkpoint, window_size)
    told = {"num_timesteps": sizes.in_channels, "patch_size": sizes.patch_size}
    return checkpoint.fill(FAMILY, lambda: PDETransformerSC(sizes), **told)


def _sizes(checkpoint: Checkpoint, window: int | None) -> Sizes:
    checkpoint.demand(carrier_token_active=False)
    hidden, frames, _, patch = checkpoint.shape("x_embedder.proj.weight", 4)
    block, levels = "encoder_level_0.blocks.0", levels_of(checkpoint)
    if f"{block}.{TABLE}" in checkpoint.tensors:
        window = (checkpoint.shape(f"{block}.{TABLE}", 4)[1] + 1) // 2
    return Sizes(
        in_channels=frames,
        out_channels=checkpoint.shape("final_layer.out_proj.weight", 4)[0] // patch**2,
        patch_size=patch,
        window_size=window or checkpoint.whole("window_size", WINDOW),
        periodic=checkpoint.setting("periodic", bool),
        hidden_size=hidden,
        num_heads=checkpoint.shape("latent.blocks.0.attn_spatial.logit_scale", 3)[0],
        depth=[checkpoint.count(f"{name}.blocks.") for name in stage_names(levels)],
        mlp_ratio=checkpoint.shape("latent.blocks.0.mlp.fc1.weight", 2)[0] / (hidden * 2**levels),
        num_classes=checkpoint.shape("task_embedder_0.embedding_table.weight", 2)[0],
        tables=any(name.endswith(TABLE) for name in checkpoint.tensors),
    )


class PDETransformerSC(nn.Module):
    """The network; each argument of a call is a list with an entry for each physical channel."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        hidden, classes = sizes.hidden_size, sizes.num_classes
        self.x_embedder = nn.Module()
        self.x_embedder.proj = nn.Conv2d(sizes.in_channels, hidden, sizes.patch_size, sizes.patch_size)
        for i in range(sizes.levels + 1):
            width = hidden * 2**i
            for name in ("t", "simulation_time", "simulation_dt"):
                self.add_module(f"{name}_embedder_{i}", TimeEmbedding(width))
            for name, rows in (("channel_type", classes + 1), ("pde_type", classes + 1), ("task", classes)):
                self.add_module(f"{name}_embedder_{i}", ClassEmbedding(rows, width))
            self.add_module(f"pde_parameter_embedder_{i}", _ParameterEmbedding(classes, width))
        add_body(self, sizes, _Block)
        self.output = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1)
        self.final_layer = FinalLayer(2 * hidden, sizes.out_channels * sizes.patch_size**2)
        if sizes.tables:
            for module in [each for each in self.modules() if isinstance(each, WindowAttention)]:
                table, index = relative_coordinates(sizes.window_size)[None], pair_index(sizes.window_size)
                module.pos_emb_funct.register_buffer("relative_coords_table", table)
                module.pos_emb_funct.register_buffer("relative_position_index", index)

    def forward(
        self,
        x: Sequence[Tensor],
        simulation_time: Sequence[Tensor],
        channel_type: Sequence[Tensor],
        pde_type: Sequence[Tensor],
        pde_parameters: Sequence[Tensor],
        pde_parameters_class: Sequence[Tensor],
        simulation_dt: Sequence[Tensor],
        task: Sequence[Tensor],
        t: Sequence[Tensor],
    ) -> Predictions:
        """Predict all frames of each channel; simulation time and step and PDE parameters have no effect, as published.

        Args:
            x: the frames of each channel, (B, T, H, W): the first is the state, one to predict is zero.
            simulation_time: without effect, (B,).
            channel_type: index of the quantity, (B,).
            pde_type: index of the PDE, (B,).
            pde_parameters: without effect, (B, 5).
            pde_parameters_class: without effect, (B, 5).
            simulation_dt: without effect, (B,).
            task: 0 for auto-regressive prediction, (B,).
            t: diffusion time, (B,).
        """
        sizes = self.sizes
        check_multiple(x[0].shape[-2:], sizes.patch_size * 2**sizes.levels)
        frames = torch.stack(list(x), dim=1)
        batch, channels = frames.shape[:2]
        given = {"channel_type": channel_type, "pde_type": pde_type, "task": task}
        time = 1000 * torch.stack(list(t), dim=1)
        conditions = []
        for i in range(sizes.levels + 1):
            c = self.get_submodule(f"t_embedder_{i}")(time.flatten()).unflatten(0, (batch, channels))
            for name, index in given.items():
                c = c + self.get_submodule(f"{name}_embedder_{i}")(torch.stack(list(index), dim=1))
            conditions.append(c)
        tokens = self.x_embedder.proj(frames.flatten(0, 1)).movedim(1, -1).unflatten(0, (batch, channels))
        tokens = u_shape(self, tokens, conditions).flatten(0, 1)
        out = self.final_layer(self.output(tokens.movedim(-1, 1)), conditions[1].flatten(0, 1))
        out = unpatchify(out, sizes.patch_size).unflatten(0, (batch, channels))
        return Predictions(list(out.unbind(1)))


class _ParameterEmbedding(nn.Module):
    """Published and stored, but its factor is 0: it is never called."""

    def __init__(self, classes: int, width: int, features: int = 256) -> None:
        super().__init__()
        self.class_embedder = ClassEmbedding(classes, width)
        self.mlp_combined = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.mlp_timestep = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))


class _ChannelAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), 10.0).log())

    def forward(self, x: Tensor) -> Tensor:
        """Attend across the channels of each token, (B, channels, H, W, width)."""
        q, k, v = self.to_qkv(x.movedim(1, -2)).unflatten(-1, (3, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        return cosine_attention(q, k, v, self.logit_scale, None).transpose(-2, -3).flatten(-2).movedim(-2, 1)


class _Block(nn.Module):
    def __init__(self, sizes: Sizes, width: int, *, shifted: bool) -> None:
        super().__init__()
        self.window, self.periodic = sizes.window_size, sizes.periodic
        self.shift = sizes.window_size // 2 if shifted else 0
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn_spatial = WindowAttention(width, sizes.num_heads)
        self.attn_channel = _ChannelAttention(width, sizes.num_heads)
        self.mlp = MLP(width, mlp_width(sizes.mlp_ratio, width))
        self.adain_2 = Modulation(width, 9)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map tokens (B, channels, H, W, width), given embeddings (B, channels, width)."""
        parts = self.adain_2(condition, x.ndim)
        (shift, scale, gate), second, third = parts[:3], parts[3:6], parts[6:]
        window, offset, (height, width) = self.window, self.shift, x.shape[2:4]
        tokens = torch.roll(x, (-offset, -offset), (2, 3))
        tokens = functional.pad(tokens, (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = tokens.shape[2:4]
        if not self.periodic and (rows, columns) != (height, width):
            raise ValueError(f"a grid of {height} × {width} tokens is no multiple of the window {window}")
        mask = None if self.periodic or not offset else self._mask(x)
        h = to_windows((self.norm1(tokens) * (1 + scale) + shift).flatten(0, 1), window).unflatten(0, x.shape[:2])
        h = from_windows(self.attn_spatial(h, window, mask).flatten(0, 1), window, rows, columns)
        h = h.unflatten(0, x.shape[:2])[:, :, :height, :width]
        x = x + torch.roll(h, (offset, offset), (2, 3)) * (1 + gate)
        for layer, norm, (shift, scale, gate) in (
            (self.attn_channel, self.norm2, second),
            (self.mlp, self.norm3, third),
        ):
            x = x + layer(norm(x) * (1 + scale) + shift) * (1 + gate)
        return x

    def _mask(self, x: Tensor) -> Tensor:
        """Return the mask of each channel and window.

        As published: masks are laid on the flat index of (sample, window, channel) as if windows were its last part.
        So with several channels, windows get each other's masks.
        """
        channels, height, width = x.shape[1:4]
        masks = shift_mask(height, width, self.window, self.shift).to(x)
        flat = torch.arange(len(masks) * channels, device=x.device).reshape(len(masks), channels)
        return masks[(flat % len(masks)).T]


class SeparateAdapter(Adapter):
    """Each channel has the state in its first frame and zeros in the others; the last frame is the prediction."""

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
        """Give each channel an index; new ones are added only if there are more channels than indices."""
        self.channels, last = max(len(self.inputs), len(self.outputs)), self.network.sizes.num_classes - 1
        self.indices = [*range(last, 0, -1), *range(last + 2, last + 2 + self.channels)][: self.channels]
        added = max(self.channels - last, 0)
        for i in range(self.network.sizes.levels + 1 if added else 0):
            embedding = self.network.get_submodule(f"channel_type_embedder_{i}")
            table = embedding.embedding_table.weight
            embedding.embedding_table = nn.Embedding(len(table) + added, table.shape[1])
            with torch.no_grad():
                embedding.embedding_table.weight[: len(table)] = table
            self.replaced.append(f"{added} new rows of channel_type_embedder_{i}")
        self.said |= {
            "history": "one frame, then zeros",
            "quantities": f"{', '.join(map(str, self.indices))}; outputs are the first channels",
            "class of the PDE": f"unknown ({last + 1})",
            "task": "0, auto-regressive prediction",
            "boundaries": f"as in the file, {'periodic' if self.network.sizes.periodic else 'not periodic'}",
        }

    def call(self, x: Tensor) -> Tensor:
        """Predict the last frame of each channel."""
        sizes, batch = self.network.sizes, len(x)
        states = filled(x, self.channels, 0.0)[:, :, None]
        frames = functional.pad(states, (0, 0, 0, 0, 0, sizes.in_channels - 1))
        zero, index = x.new_zeros(batch), torch.zeros(batch, dtype=torch.long, device=x.device)
        channels = range(self.channels)
        prediction = self.network(
            x=list(frames.unbind(1)),
            simulation_time=[zero for _ in channels],
            channel_type=[index + i for i in self.indices],
            pde_type=[index + sizes.num_classes for _ in channels],
            pde_parameters=[x.new_zeros(batch, 5) for _ in channels],
            pde_parameters_class=[x.new_zeros(batch, 5) for _ in channels],
            simulation_dt=[zero for _ in channels],
            task=[index for _ in channels],
            t=[zero for _ in channels],
        ).sample
        return torch.stack([each[:, -1] for each in prediction[: len(self.outputs)]], dim=1)


class PDETransformerSCModel(ReleasedModel):
    """PDE-Transformer with separate channels.

    Args:
        checkpoint: a folder with config.json and weights.
        resampling: how grids are brought to sizes that the network can halve.
        window_size: tokens a side of a window if the file does not say; 0 for the published 8.
    """

    adapter = SeparateAdapter
    files: ClassVar[Sequence[str]] = FILES
    reads_config = True

    def __init__(self, checkpoint: str, resampling: Resampling = "family", window_size: int = 0) -> None:
        super().__init__()
        self.checkpoint, self.resampling, self.window_size = checkpoint, resampling, window_size
