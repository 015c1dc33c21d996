"""DPOT: an auto-regressive denoising transformer that mixes tokens in Fourier space (arXiv 2403.03542)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdebench_fm.errors import DataFileError
from pdefm_released.adapter import Adapter, Facts, filled
from pdefm_released.checkpoint import Checkpoint, locate, read_checkpoint
from pdefm_released.model import ReleasedModel, Resampling

FAMILY = "DPOT"
FILES = ("*.pth", "*.pt", "*.bin")
GROUPS = 8


@dataclass(frozen=True)
class Sizes:
    """Sizes of a DPOT network, named as its constructor's arguments."""

    img_size: int
    patch_size: int
    in_channels: int
    out_channels: int
    in_timesteps: int
    out_timesteps: int
    embed_dim: int
    depth: int
    n_blocks: int
    modes: int
    mlp_hidden: int
    stem_width: int
    out_layer_dim: int
    n_cls: int
    time_agg: str = "exp_mlp"


def load_network(path: Path | str, *, modes: int | None = None, out_timesteps: int | None = None) -> DPOT:
    """Load a file ``model_*.pth``, or the only one of a folder.

    Args:
        path: file or folder.
        modes: modes kept on each axis; by default those of the file's ``args``, or 32, as in the released ones.
        out_timesteps: frames predicted at once; by default those of ``args``, or as many as make output and input
            channels equal.

    Raises:
        DataFileError: it is damaged, or not of this family.
    """
    checkpoint = read_checkpoint(locate(path, *FILES), FAMILY)
    sizes = _sizes(checkpoint, modes, out_timesteps)
    return checkpoint.fill(FAMILY, lambda: DPOT(sizes))


def _sizes(checkpoint: Checkpoint, modes: int | None, out_timesteps: int | None) -> Sizes:
    checkpoint.demand(mixing_type="afno", act="gelu", normalize=False)
    _, width, grid, _ = checkpoint.shape("pos_embed", 4)
    stem, entering, _, patch = checkpoint.shape("patch_embed.proj.0.weight", 4)
    leaving = checkpoint.shape("out_layer.4.weight", 4)[0]
    channels = entering - 3
    frames = out_timesteps or checkpoint.whole("T_bundle", max(1, leaving // max(channels, 1)))
    if leaving % frames:
        raise DataFileError(f"{checkpoint.file}: {leaving} outputs are not a multiple of {frames} frames")
    return Sizes(
        img_size=grid * patch,
        patch_size=patch,
        in_channels=channels,
        out_channels=leaving // frames,
        in_timesteps=checkpoint.shape("time_agg_layer.w", 3)[0],
        out_timesteps=frames,
        embed_dim=width,
        depth=checkpoint.count("blocks."),
        n_blocks=checkpoint.shape("blocks.0.filter.w1", 4)[1],
        modes=modes or checkpoint.whole("modes", 32),
        mlp_hidden=checkpoint.shape("blocks.0.mlp.0.weight", 4)[0],
        stem_width=stem,
        out_layer_dim=checkpoint.shape("out_layer.0.weight", 4)[1],
        n_cls=checkpoint.shape("cls_head.4.weight", 2)[0],
        time_agg=checkpoint.settings.get("time_agg", "exp_mlp"),
    )


class DPOT(nn.Module):
    """The network; call it with a history of frames."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        width, patch, hidden = sizes.embed_dim, sizes.patch_size, sizes.out_layer_dim
        grid = sizes.img_size // patch
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, width, grid, grid))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Sequential(
            nn.Conv2d(sizes.in_channels + 3, sizes.stem_width, patch, patch),
            nn.GELU(),
            nn.Conv2d(sizes.stem_width, width, 1),
        )
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))
        self.time_agg_layer = _TimeAggregation(sizes)
        self.out_layer = nn.Sequential(
            nn.ConvTranspose2d(width, hidden, patch, patch),
            nn.GELU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.GELU(),
            nn.Conv2d(hidden, sizes.out_channels * sizes.out_timesteps, 1),
        )
        self.cls_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, sizes.n_cls)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the next frames.

        Args:
            x: history, (B, X, Y, T, C), channels last; X, Y and T are the network's own.

        Returns:
            frames (B, X, Y, T_out, C_out) and logits of the training set they resemble, (B, n_cls).
        """
        sizes = self.sizes
        wanted = (sizes.img_size, sizes.img_size, sizes.in_timesteps, sizes.in_channels)
        if tuple(x.shape[1:]) != wanted:
            raise ValueError(f"this DPOT takes histories of shape (batch, {wanted}), got {tuple(x.shape)}")
        frames = self._with_coordinates(x).permute(0, 3, 4, 1, 2)  # (B, T, C + 3, X, Y)
        tokens = self.patch_embed.proj(frames.flatten(0, 1)) + self.pos_embed
        h = self.time_agg_layer(tokens.unflatten(0, frames.shape[:2]))
        for block in self.blocks:
            h = block(h)
        logits = self.cls_head(h.mean(dim=(2, 3)))
        out = self.out_layer(h).permute(0, 2, 3, 1)
        return out.unflatten(-1, (sizes.out_timesteps, sizes.out_channels)), logits

    @staticmethod
    def _with_coordinates(x: Tensor) -> Tensor:
        axes = [torch.linspace(0, 1, n, dtype=x.dtype, device=x.device) for n in x.shape[1:4]]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        return torch.cat([x, grid.expand(len(x), *grid.shape)], dim=-1)


def prepared(fields: Tensor, size: int, channels: int) -> Tensor:
    """Resize fields (B, X, Y, T, C) bilinearly to ``size`` and fill the missing channels with ones, as published."""
    batch, _, _, frames, own = fields.shape
    if fields.shape[1:3] != (size, size):
        flat = functional.interpolate(fields.permute(0, 3, 4, 1, 2).flatten(0, 1), (size, size), mode="bilinear")
        fields = flat.unflatten(0, (batch, frames)).permute(0, 3, 4, 1, 2)
    return functional.pad(fields, (0, channels - own), value=1.0)


class _TimeAggregation(nn.Module):
    """Sums the frames, each with a matrix of its own."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        frames, width = sizes.in_timesteps, sizes.embed_dim
        self.w = nn.Parameter(torch.randn(frames, width, width) / (frames * width**0.5))
        if sizes.time_agg == "exp_mlp":
            self.gamma = nn.Parameter(2 ** torch.linspace(-10, 10, width)[None])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, width, X, Y) to (B, width, X, Y)."""
        if hasattr(self, "gamma"):
            time = torch.linspace(0, 1, x.shape[1], device=x.device, dtype=x.dtype)
            x = x * torch.cos(time[:, None] * self.gamma)[:, :, None, None]
        return torch.einsum("tij,btixy->bjxy", self.w, x)


class _Block(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.embed_dim
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, width), nn.GroupNorm(GROUPS, width)
        self.filter = _FourierMixing(width, sizes.n_blocks, sizes.modes)
        self.mlp = nn.Sequential(
            nn.Conv2d(width, sizes.mlp_hidden, 1), nn.GELU(), nn.Conv2d(sizes.mlp_hidden, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(self.filter(self.norm1(x)))) + x


class _FourierMixing(nn.Module):
    """A block-diagonal complex network for each mode; index 0 of a weight is its real part, 1 the imaginary one.

    Modes from ``modes`` on are dropped on both axes, the negative ones of the first axis included, as published.
    """

    def __init__(self, width: int, blocks: int, modes: int) -> None:
        super().__init__()
        size = width // blocks
        self.modes, self.blocks = modes, blocks
        self.w1, self.w2 = (nn.Parameter(torch.randn(2, blocks, size, size) / size) for _ in range(2))
        self.b1, self.b2 = (nn.Parameter(torch.randn(2, blocks, size) / size) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, X, Y) to the same shape."""
        spectrum = torch.fft.rfft2(x, norm="ortho")
        kept = spectrum[:, :, : self.modes, : self.modes]
        parts = torch.stack([kept.real, kept.imag]).unflatten(2, (self.blocks, -1))
        hidden = functional.gelu(self._layer(parts, self.w1, self.b1))
        mixed = self._layer(hidden, self.w2, self.b2).flatten(2, 3)
        padding = (0, spectrum.shape[-1] - kept.shape[-1], 0, spectrum.shape[-2] - kept.shape[-2])
        filled = functional.pad(torch.complex(mixed[0], mixed[1]), padding)
        return torch.fft.irfft2(filled, s=x.shape[-2:], norm="ortho") + x

    @staticmethod
    def _layer(parts: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Multiply (2, B, blocks, size, X, Y) by a complex matrix of each block."""
        product = torch.einsum("cbnixy,dnio->cdbnoxy", parts, weight)
        out = torch.stack([product[0, 0] - product[1, 1], product[0, 1] + product[1, 0]])
        return out + bias[:, None, :, :, None, None]


class DPOTAdapter(Adapter):
    """The state repeated over the history; unused channels are ones, as in DPOT's own loader."""

    family = FAMILY
    facts = Facts(
        code="github.com/HaoZhongkai/DPOT, no licence file; this network was written from its description",
        weights="huggingface.co/hzk17/DPOT, Apache-2.0 according to third parties",
        data="12 sets of PDEBench, PDEArena, CFDBench and FNO's Navier-Stokes, at 128², histories of 10 frames",
    )
    own_resampling = "bilinear"
    embedding = ("patch_embed.proj.0",)
    head = ("out_layer.4",)

    @classmethod
    def open(cls, checkpoint: Path, **arguments: Any) -> nn.Module:
        """Load the network."""
        return load_network(checkpoint, **arguments)

    def size(self, n: int) -> int:
        """Its own size."""
        return self.network.sizes.img_size

    def fit_channels(self) -> None:
        """Replace the first or last layer only if there are more channels than it has."""
        sizes, network = self.network.sizes, self.network
        inputs, outputs = max(len(self.inputs), sizes.in_channels), max(len(self.outputs), sizes.out_channels)
        if inputs != sizes.in_channels:
            network.patch_embed.proj[0] = nn.Conv2d(inputs + 3, sizes.stem_width, sizes.patch_size, sizes.patch_size)
            self.replaced.append("patch_embed.proj.0")
        if outputs != sizes.out_channels:
            network.out_layer[4] = nn.Conv2d(sizes.out_layer_dim, outputs * sizes.out_timesteps, 1)
            self.replaced.append("out_layer.4")
        network.sizes = replace(sizes, in_channels=inputs, out_channels=outputs)
        self.said |= {
            "history": f"the state repeated over {sizes.in_timesteps} frames",
            "unused channels": f"{inputs - len(self.inputs)}, filled with 1",
            "prediction": f"the last of {sizes.out_timesteps} frames" if sizes.out_timesteps > 1 else "one frame",
            "boundaries": "not an input",
            "modes": f"{sizes.modes} of each axis of the token grid",
        }

    def call(self, x: Tensor) -> Tensor:
        """Predict the next frame."""
        sizes = self.network.sizes
        frame = filled(x, sizes.in_channels, 1.0).permute(0, 2, 3, 1)
        prediction, _ = self.network(frame[:, :, :, None].expand(-1, -1, -1, sizes.in_timesteps, -1))
        return prediction[..., -1, :].permute(0, 3, 1, 2)


class DPOTModel(ReleasedModel):
    """DPOT.

    Args:
        checkpoint: a file ``model_*.pth``, or a folder with one.
        resampling: how grids of other sizes are brought to the network's.
        modes: modes kept on each axis if the file does not say; 0 for the published 32.
        out_timesteps: frames predicted at once if the file does not say; 0 derives them.
    """

    adapter = DPOTAdapter
    files: ClassVar[Sequence[str]] = FILES

    def __init__(
        self, checkpoint: str, resampling: Resampling = "family", modes: int = 0, out_timesteps: int = 0
    ) -> None:
        super().__init__()
        self.checkpoint, self.resampling = checkpoint, resampling
        self.modes, self.out_timesteps = modes, out_timesteps
