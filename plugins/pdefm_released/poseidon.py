"""Poseidon: scOT, a U-shaped SwinV2 whose norms depend on the lead time (arXiv 2405.19101)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pdefm_released.adapter import Adapter, Facts
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

FAMILY = "Poseidon"
_NAMES = ("model.safetensors", "pytorch_model.bin")
FILES = (*(f"{name}{end}" for name in _NAMES for end in ("", ".index.json")), "*.safetensors", "*.bin")
EPS = 1e-5


class ScOTOutput(NamedTuple):
    """What the network returns: the prediction, (B, C, H, W), and the loss if there were labels."""

    loss: Tensor | None
    output: Tensor


@dataclass(frozen=True)
class Sizes:
    """Sizes of a scOT network, named as in its configuration."""

    image_size: int
    patch_size: int
    num_channels: int
    num_out_channels: int
    embed_dim: int
    depths: Sequence[int]
    num_heads: Sequence[int]
    skip_connections: Sequence[int]
    window_size: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    use_conditioning: bool = True
    layer_norm_eps: float = EPS
    p: int = 1
    channel_slice_list_normalized_loss: Sequence[int] | None = None


def load_network(path: Path | str) -> ScOT:
    """Load a folder with config.json and weights, or a file of weights beside its config.json.

    Raises:
        DataFileError: it is damaged, or not of this family.
    """
    file = locate(path, *FILES)
    checkpoint = read_checkpoint(file, FAMILY, file.parent / "config.json")
    sizes = _sizes(checkpoint)
    told = {name: getattr(sizes, name) for name in ("patch_size", "embed_dim", "depths", "num_heads")}
    return checkpoint.fill(FAMILY, lambda: ScOT(sizes), **told)


def _sizes(checkpoint: Checkpoint) -> Sizes:
    checkpoint.demand(use_absolute_embeddings=False, learn_residual=False, residual_model="convnext", hidden_act="gelu")
    embedding = checkpoint.shape("embeddings.patch_embeddings.projection.weight", 4)
    stage, stages = "encoder.layers", checkpoint.count("encoder.layers.")
    hidden, _ = checkpoint.shape(f"{stage}.{max(stages - 1, 0)}.blocks.0.intermediate.dense.weight", 2)
    return Sizes(
        image_size=checkpoint.whole("image_size"),
        patch_size=embedding[-1],
        num_channels=embedding[1],
        num_out_channels=checkpoint.shape("patch_recovery.projection.weight", 4)[1],
        embed_dim=embedding[0],
        depths=[checkpoint.count(f"{stage}.{i}.blocks.") for i in range(stages)],
        num_heads=[checkpoint.shape(f"{stage}.{i}.blocks.0.attention.self.logit_scale", 3)[0] for i in range(stages)],
        skip_connections=[checkpoint.count(f"residual_blocks.{i}.") for i in range(stages)],
        window_size=checkpoint.whole("window_size"),
        mlp_ratio=hidden / (embedding[0] * 2 ** (stages - 1)),
        qkv_bias=any(name.endswith("attention.self.query.bias") for name in checkpoint.tensors),
        use_conditioning=any(name.startswith("embeddings.norm.weight.") for name in checkpoint.tensors),
        layer_norm_eps=checkpoint.setting("layer_norm_eps", (float, int), EPS),
        p=checkpoint.whole("p", 1),
        channel_slice_list_normalized_loss=checkpoint.setting("channel_slice_list_normalized_loss", list, None),
    )


class ScOT(nn.Module):
    """The network; call it with fields and a lead time."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        stages = len(sizes.depths)
        self.embeddings = _Embeddings(sizes)
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.layers = nn.ModuleList(_Stage(sizes, i, decoder=False) for i in range(stages))
        self.decoder.layers = nn.ModuleList(_Stage(sizes, i, decoder=True) for i in reversed(range(stages)))
        self.residual_blocks = nn.ModuleList(
            nn.ModuleList(_ConvNeXt(sizes, sizes.embed_dim * 2**i) for _ in range(count))
            for i, count in enumerate(sizes.skip_connections)
        )
        self.patch_recovery = _Recovery(sizes)

    def forward(
        self, pixel_values: Tensor, time: Tensor, labels: Tensor | None = None, pixel_mask: Tensor | None = None
    ) -> ScOTOutput:
        """Predict the fields after the lead time.

        Args:
            pixel_values: (B, C, N, N); resampled to the network's own size and back.
            time: lead time, (B,).
            labels: targets, (B, C_out, N, N), if a loss is wanted.
            pixel_mask: bool, (B, C_out) or the shape of labels; what is masked is taken from the labels.
        """
        size, own = pixel_values.shape[2], self.sizes.image_size
        if pixel_values.shape[3] != size or (size - own) % 2:
            raise ValueError(f"scOT of size {own} needs square fields of an even difference, got {pixel_values.shape}")
        x, grid = self.embeddings(resample(pixel_values, own), time)
        skips = []
        for stage, blocks in zip(self.encoder.layers, self.residual_blocks, strict=True):
            x, before, below = stage(x, time, grid)
            skips.append((before, grid, blocks))
            grid = below
        x, side = None, 0
        for stage in self.decoder.layers:
            skip, grid, blocks = skips.pop()
            for block in blocks:
                skip = block(skip, time, grid)
            x = skip if x is None else x.unflatten(1, (side, side))[:, :grid, :grid].flatten(1, 2) + skip
            x, _, side = stage(x, time, grid)
        prediction = resample(self.patch_recovery(x, grid), size)
        if labels is not None and pixel_mask is not None:
            mask = pixel_mask[:, :, None, None] if pixel_mask.ndim == 2 else pixel_mask
            prediction = torch.where(mask, labels.to(prediction), prediction)
        return ScOTOutput(None if labels is None else self.loss(prediction, labels), prediction)

    def loss(self, prediction: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over channel groups of the error relative to the group's norm, () in the p-norm."""
        groups = self.sizes.channel_slice_list_normalized_loss
        distance = functional.l1_loss if self.sizes.p == 1 else functional.mse_loss
        if groups is None:
            return distance(prediction, labels)
        parts = [
            distance(prediction[:, a:b], labels[:, a:b])
            / (distance(labels[:, a:b], torch.zeros_like(labels[:, a:b])) + 1e-10)
            for a, b in itertools.pairwise(groups)
        ]
        return torch.stack(parts).mean()


def resample(fields: Tensor, size: int) -> Tensor:
    """Resample (…, N, N) by the Fourier series as Poseidon does: the lowest frequency is kept without its partner."""
    n = fields.shape[-1]
    if n == size:
        return fields
    spectrum = torch.fft.fftshift(torch.fft.fft2(fields, norm="forward"), dim=(-2, -1))
    pad = (size - n) // 2 if size > n else -(n // 2 - size // 2)
    rest = size - n - pad
    spectrum = functional.pad(spectrum, (pad, rest, pad, rest))
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)), norm="forward").real


class _ConditionedNorm(nn.Module):
    """Layer norm whose gain and shift are affine functions of the time."""

    def __init__(self, width: int, eps: float = EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Linear(1, width), nn.Linear(1, width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Normalise (B, tokens, width)."""
        mean = x.mean(dim=-1, keepdim=True)
        variance = (x * x).mean(dim=-1, keepdim=True) - mean * mean
        time = time.reshape(-1, 1, 1).to(x)
        return self.weight(time) * ((x - mean) / (variance + self.eps).sqrt()) + self.bias(time)


class _PlainNorm(nn.LayerNorm):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return super().forward(x)


def _norm(sizes: Sizes, width: int, eps: float = EPS) -> nn.Module:
    return _ConditionedNorm(width, eps) if sizes.use_conditioning else _PlainNorm(width, eps)


class _Embeddings(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        patch, self.grid = sizes.patch_size, sizes.image_size // sizes.patch_size
        if sizes.image_size % patch:
            raise ValueError(f"image_size {sizes.image_size} is no multiple of the patch {patch}")
        self.patch_embeddings = nn.Module()
        self.patch_embeddings.projection = nn.Conv2d(sizes.num_channels, sizes.embed_dim, patch, patch)
        self.norm = _norm(sizes, sizes.embed_dim)

    def forward(self, fields: Tensor, time: Tensor) -> tuple[Tensor, int]:
        return self.norm(self.patch_embeddings.projection(fields).flatten(2).transpose(1, 2), time), self.grid


class _Recovery(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        patch, channels = sizes.patch_size, sizes.num_out_channels
        self.projection = nn.ConvTranspose2d(sizes.embed_dim, channels, patch, patch)
        self.mixup = nn.Conv2d(channels, channels, 5, padding=2, bias=False)

    def forward(self, x: Tensor, grid: int) -> Tensor:
        return self.mixup(self.projection(x.transpose(1, 2).unflatten(2, (grid, grid))))


class _Stage(nn.Module):
    """Blocks of one resolution, then a merging (encoder) or unmerging (decoder) of patches."""

    def __init__(self, sizes: Sizes, level: int, *, decoder: bool) -> None:
        super().__init__()
        width, depth = sizes.embed_dim * 2**level, sizes.depths[level]
        self.blocks = nn.ModuleList(
            _Block(sizes, level, shifted=(depth - 1 - j if decoder else j) % 2 == 1) for j in range(depth)
        )
        if decoder and level > 0:
            self.upsample = _Unmerging(sizes, width)
        elif not decoder and level < len(sizes.depths) - 1:
            self.downsample = _Merging(sizes, width)

    def forward(self, x: Tensor, time: Tensor, grid: int) -> tuple[Tensor, Tensor, int]:
        """Return what leaves the stage, what it was before its (un)merging, and the next grid."""
        entering = x
        for block in self.blocks:
            x = block(x, time, grid)
        if hasattr(self, "downsample"):
            return self.downsample(x + entering, time, grid), x, (grid + 1) // 2
        if hasattr(self, "upsample"):
            return self.upsample(x, time, grid), x, grid * 2
        return x, x, grid


class _Merging(nn.Module):
    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = _norm(sizes, 2 * width)

    def forward(self, x: Tensor, time: Tensor, grid: int) -> Tensor:
        x = x.unflatten(1, (grid, grid))
        x = functional.pad(x, (0, 0, 0, grid % 2, 0, grid % 2))
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.norm(self.reduction(torch.cat(parts, dim=-1).flatten(1, 2)), time)


class _Unmerging(nn.Module):
    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__()
        self.upsample = nn.Linear(width, 2 * width, bias=False)
        self.mixup = nn.Linear(width // 2, width // 2, bias=False)
        self.norm = _norm(sizes, width // 2)

    def forward(self, x: Tensor, time: Tensor, grid: int) -> Tensor:
        x = self.upsample(x).reshape(len(x), grid, grid, 2, 2, -1).transpose(2, 3).flatten(1, 4)
        return self.mixup(self.norm(x, time))


class _Block(nn.Module):
    def __init__(self, sizes: Sizes, level: int, *, shifted: bool) -> None:
        super().__init__()
        # Published windows are no larger than the grid halved rounding down, though an odd grid is halved rounding up.
        planned = max(sizes.image_size // sizes.patch_size // 2**level, 1)
        self.window = min(sizes.window_size, planned)
        self.shift = sizes.window_size // 2 if shifted and planned > sizes.window_size else 0
        width, heads = sizes.embed_dim * 2**level, sizes.num_heads[level]
        self.attention = nn.Module()
        self.attention.self = _Attention(width, heads, sizes.qkv_bias)
        self.attention.output, self.intermediate, self.output = nn.Module(), nn.Module(), nn.Module()
        self.attention.output.dense = nn.Linear(width, width)
        hidden = mlp_width(sizes.mlp_ratio, width)
        self.intermediate.dense, self.output.dense = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.layernorm_before = _norm(sizes, width, sizes.layer_norm_eps)
        self.layernorm_after = _norm(sizes, width, sizes.layer_norm_eps)

    def forward(self, x: Tensor, time: Tensor, grid: int) -> Tensor:
        x = x + self.layernorm_before(self._attend(x, grid), time)
        mlp = self.output.dense(functional.gelu(self.intermediate.dense(x)))
        return x + self.layernorm_after(mlp, time)

    def _attend(self, x: Tensor, grid: int) -> Tensor:
        window, shift = self.window, self.shift
        size = grid + -grid % window
        x = functional.pad(x.unflatten(1, (grid, grid)), (0, 0, 0, size - grid, 0, size - grid))
        x = torch.roll(x, (-shift, -shift), (1, 2))
        mask = shift_mask(size, size, window, shift).to(x) if shift else None
        x = self.attention.output.dense(self.attention.self(to_windows(x, window), window, mask))
        x = torch.roll(from_windows(x, window, size, size), (shift, shift), (1, 2))
        return x[:, :grid, :grid].flatten(1, 2)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Linear(width, width, bias), nn.Linear(width, width, bias)
        self.key = nn.Linear(width, width, bias=False)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), 10.0).log())
        self.continuous_position_bias_mlp = position_network(heads)

    def forward(self, x: Tensor, window: int, mask: Tensor | None) -> Tensor:
        """Attend within windows, (B, windows, tokens, width); mask (windows, tokens, tokens)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(2, 3) for layer in (self.query, self.key, self.value)
        )
        bias = position_bias(self.continuous_position_bias_mlp, window, x)
        if mask is not None:
            bias = bias + mask[:, None]
        return cosine_attention(q, k, v, self.logit_scale, bias).transpose(2, 3).flatten(3)


class _ConvNeXt(nn.Module):
    def __init__(self, sizes: Sizes, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = _norm(sizes, width, sizes.layer_norm_eps)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.weight = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor, time: Tensor, grid: int) -> Tensor:
        y = self.dwconv(x.transpose(1, 2).unflatten(2, (grid, grid))).flatten(2).transpose(1, 2)
        return x + self.weight * self.pwconv2(functional.gelu(self.pwconv1(self.norm(y, time))))


class PoseidonAdapter(Adapter):
    """One state in, lead time 1, as Poseidon's authors do for steady problems."""

    family = FAMILY
    facts = Facts(
        code="github.com/camlab-ethz/poseidon, no licence file; this network was written from its description",
        weights="huggingface.co/camlab-ethz/Poseidon-{T,B,L}, CC-BY-NC-4.0",
        data="compressible Euler and incompressible Navier-Stokes equations, 128², periodic, up to 14 of 20 time steps",
    )
    embedding = ("embeddings.patch_embeddings.projection",)
    head = ("patch_recovery.projection", "patch_recovery.mixup")

    @classmethod
    def open(cls, checkpoint: Path, **arguments: Any) -> nn.Module:
        """Load the network."""
        return load_network(checkpoint, **arguments)

    def size(self, n: int) -> int:
        """Its own size; a grid that Poseidon resamples itself is left to it."""
        own = self.network.sizes.image_size
        return n if self.resampling == "spectral" and (n - own) % 2 == 0 else own

    def fit_channels(self) -> None:
        """Replace embedding and recovery if their channel counts change; the embedding's bias is kept."""
        sizes, network = self.network.sizes, self.network
        inputs, outputs, patch = len(self.inputs), len(self.outputs), sizes.patch_size
        if inputs != sizes.num_channels:
            projection = network.embeddings.patch_embeddings.projection
            fresh = nn.Conv2d(inputs, sizes.embed_dim, patch, patch)
            projection.weight, projection.in_channels = fresh.weight, inputs
            self.replaced.append("embeddings.patch_embeddings.projection.weight")
        if outputs != sizes.num_out_channels:
            network.patch_recovery = _Recovery(replace(sizes, num_out_channels=outputs))
            self.replaced += [f"patch_recovery.{name}" for name, _ in network.patch_recovery.named_parameters()]
        network.sizes = replace(sizes, num_channels=inputs, num_out_channels=outputs)
        self.said |= {"lead time": "1.0, as for steady problems", "history": "one state", "boundaries": "not an input"}
        inside = "; grids of an even difference are resampled inside the network by Fourier series"
        self.said["size"] = f"{sizes.image_size}²{inside if self.resampling == 'spectral' else ''}"

    def call(self, x: Tensor) -> Tensor:
        """Predict at lead time 1."""
        return self.network(x, time=x.new_ones(len(x))).output


class Poseidon(ReleasedModel):
    """Poseidon.

    Args:
        checkpoint: folder with config.json and model.safetensors.
        resampling: how grids of other sizes are brought to the network's.
    """

    adapter = PoseidonAdapter
    files: ClassVar[Sequence[str]] = FILES
    reads_config = True

    def __init__(self, checkpoint: str, resampling: Resampling = "family") -> None:
        super().__init__()
        self.checkpoint, self.resampling = checkpoint, resampling
