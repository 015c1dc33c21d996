"""The released network as its authors wrote it: 16² points, inputs named by position, no idea of any benchmark."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

RESOLUTION = 16
WEIGHTS = Path(__file__).with_name("weights.safetensors")


class Checkpoint(nn.Module):
    """Scales each Fourier mode of the force by a learned polynomial in the anisotropy of a tensor of trace 1."""

    def __init__(self) -> None:
        super().__init__()
        self.multipliers = nn.Parameter(torch.zeros(RESOLUTION, RESOLUTION // 2 + 1, 6))

    @staticmethod
    def polynomial(tensor: Tensor) -> Tensor:
        """(batch, [kxx, kyy, kxy]) → (batch, 6): monomials up to degree 2."""
        a, b = tensor[:, 0] - tensor[:, 1], 2 * tensor[:, 2]
        return torch.stack([torch.ones_like(a), a, b, a * a, a * b, b * b], dim=1)

    def forward(self, force: Tensor, tensor: Tensor) -> Tensor:
        """(batch, 16, 16) and (batch, 3) → (batch, 16, 16)."""
        if force.shape[-2:] != (RESOLUTION, RESOLUTION):
            raise ValueError(f"the force must have {RESOLUTION} points a side, got {tuple(force.shape[-2:])}")
        multiplier = torch.einsum("bp,yxp->byx", self.polynomial(tensor), self.multipliers)
        return torch.fft.irfft2(torch.fft.rfft2(force) * multiplier, s=(RESOLUTION, RESOLUTION))


def released() -> Checkpoint:
    """Return the network with the released weights."""
    network = Checkpoint()
    network.load_state_dict(load_file(WEIGHTS))
    return network
