"""A vision transformer of transformers (https://huggingface.co/docs/transformers) as an operator."""

from __future__ import annotations

from torch import Tensor, nn

from pdebench_fm.errors import SettingError
from pdebench_fm.problem import Problem
from pdebench_fm.training import NetworkModel, planes
from pdefm_libraries.library import check_least, load


class ViT(NetworkModel):
    """A ViT whose tokens are each mapped back to a patch of the outputs.

    On another grid than that of training, position embeddings are interpolated as the library does it.

    Args:
        width: of a token.
        depth: number of layers.
        heads: of attention; must divide the width.
        patch: points along each side of a patch; must divide those of the grid.
    """

    def __init__(self, width: int = 64, depth: int = 4, heads: int = 4, patch: int = 4) -> None:
        check_least(width=width, depth=depth, heads=heads, patch=patch)
        if width % heads:
            raise SettingError("heads", f"must divide the width, {width}, got {heads}")
        self.width = width
        self.depth = depth
        self.heads = heads
        self.patch = patch

    def supports(self, problem: Problem) -> str | None:
        """Refuse a grid that cannot be cut into patches."""
        if problem.grid.size % self.patch:
            return f"patches of {self.patch} points need a multiple of them a side, got {problem.grid.size}"
        return None

    def build(self, problem: Problem) -> nn.Module:
        """Return a new network for the channels of ``problem``, with position embeddings for its grid."""
        library = load("transformers")
        config = library.ViTConfig(
            hidden_size=self.width,
            num_hidden_layers=self.depth,
            num_attention_heads=self.heads,
            intermediate_size=4 * self.width,
            image_size=problem.grid.size,
            patch_size=self.patch,
            num_channels=len(problem.inputs),
        )
        body = library.ViTModel(config, add_pooling_layer=False)
        return PatchOperator(body, self.width, len(problem.outputs), self.patch)


class PatchOperator(nn.Module):
    """A transformer on patches, and a linear map from each token to a patch of the outputs.

    Args:
        body: maps (batch, channels, n, n) to tokens (batch, 1 + patches, width); the first belongs to no patch.
        width: of a token.
        outputs: output channels.
        patch: points along each side of a patch.
    """

    def __init__(self, body: nn.Module, width: int, outputs: int, patch: int) -> None:
        super().__init__()
        self.body = body
        self.project = nn.Linear(width, outputs * patch**2)
        self.outputs, self.patch = outputs, patch

    def forward(self, fields: Tensor, constants: Tensor) -> Tensor:
        """Map fields (batch, F, n, n) and constants (batch, K) to (batch, outputs, n, n)."""
        batch, size = len(fields), fields.shape[-1]
        side = size // self.patch
        tokens = self.body(planes(fields, constants), interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        patches = self.project(tokens).view(batch, side, side, self.outputs, self.patch, self.patch)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, self.outputs, size, size)
